# ruff: noqa: E402 - what the extra `web` installs may be missing
"""A server without cameras and models, and a small client, for tests."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from sample_events import person

from emotion_runtime.errors import EmotionError
from emotion_runtime.sources import Address
from emotion_runtime.types import EmotionEvent, Frame, Person, RunLine

for needed in ("starlette", "uvicorn", "prometheus_client", "websockets"):
    pytest.importorskip(needed, reason="needs the extra: pip install '.[web]'")
from websockets.sync.client import ClientConnection, connect

from emotion_runtime.web.limits import WebLimits
from emotion_runtime.web.opening import ServedRun, WebOptions, open_web
from emotion_runtime.web.sink import WebSink
from emotion_runtime.web.state import WebContent

BOX = (40.0, 30.0, 120.0, 150.0)
RUN = RunLine(version="1", bundle="nano", bundle_sha256="0" * 64, head="faces")
MANY = WebLimits(requests_per_second=1e6, burst=1_000_000)


class FakeSources:
    """Cameras that can be paused."""

    def __init__(self) -> None:
        self.paused: dict[str, bool] = {"door": False}

    def pause(self, name: str) -> None:
        self._set(name, paused=True)

    def resume(self, name: str) -> None:
        self._set(name, paused=False)

    def remove(self, name: str) -> None:
        self._set(name, paused=False)
        del self.paused[name]

    def add(self, address: Address) -> None:
        if address.name in self.paused:
            raise EmotionError(f"several sources have the same name ({address.name}): give NAME=URI")
        self.paused[address.name] = False

    def names(self) -> list[str]:
        return list(self.paused)

    def _set(self, name: str, *, paused: bool) -> None:
        if name not in self.paused:
            raise EmotionError(f"there is no source {name!r}")
        self.paused[name] = paused


def look(image: np.ndarray[Any, Any]) -> list[Person]:
    return [person(1, (0.0, 0.0, float(image.shape[1]), float(image.shape[0])))]


class Served:
    """A server with a loop that gives it a frame from time to time."""

    def __init__(self, sink: WebSink, line: str, sources: FakeSources) -> None:
        self.sink, self.line, self.sources = sink, line, sources
        self.port = int(line.partition("//")[2].partition("/")[0].rpartition(":")[2])
        self.index = 0
        self.noise = np.zeros((240, 320, 3), np.uint8)  # makes images larger
        self.crowd = 0  # further people, who make events larger
        self.single_people = True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self.give()
        self._thread.start()

    def stop(self) -> None:
        self.stop_giving()
        self.sink.close()

    def stop_giving(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.04):
            self.give()

    def give(self, source: str = "door") -> None:
        """Give the server the next frame of a source."""
        image = self.noise + np.uint8(60 + self.index % 100)
        frame = Frame(image, self.index, 0.04 * self.index, source)
        persons = [person(1, BOX), person(2, (180.0, 30.0, 260.0, 150.0), top=None)]
        persons += [person(3 + i, BOX) for i in range(self.crowd)]
        persons = persons if self.single_people else []
        event = EmotionEvent(source=source, frame=self.index, t=frame.t, persons=persons, latency_ms=20.0)
        self.index += 1
        self.sink.write(frame, event)

    def open(self, method: str, path: str) -> http.client.HTTPResponse:
        """Return the answer to a request before its body was read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path)
        return connection.getresponse()

    def ask(
        self, method: str, path: str, body: bytes | str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the answer to a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return response.status, found, response.read()
        finally:
            connection.close()

    def json(self, method: str, path: str, value: Any = None) -> tuple[int, Any]:
        """Return status and value of the answer to a request with a body of JSON."""
        body = None if value is None else json.dumps(value)
        headers = {} if value is None else {"content-type": "application/json"}
        status, _, answer = self.ask(method, path, body, headers)
        return status, json.loads(answer)


@contextmanager
def serving(options: WebOptions, content: WebContent | None = None) -> Iterator[Served]:
    """Serve while the block runs."""
    sources = FakeSources()
    run = ServedRun(
        run=RUN,
        labels=("happiness", "sadness"),
        look=look,
        control=sources,
        add=sources.add,
        stage_seconds=dict,
        content=content or WebContent(),
    )
    sink, line = open_web(options, run)
    served = Served(sink, line, sources)
    served.single_people = run.content.single_people
    served.start()
    try:
        yield served
    finally:
        served.stop()


def watch(served: Served, **options: Any) -> ClientConnection:
    """Open the WebSocket of live images."""
    return connect(f"ws://127.0.0.1:{served.port}/watch", compression=None, **options)


def read_stream(served: Served, path: str, size: int, headers: str = "") -> bytes:
    """Return the beginning of an answer that does not end, with its head."""
    with socket.create_connection(("127.0.0.1", served.port), 5) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n{headers}\r\n"
        connection.sendall(request.encode())
        data = b""
        while len(data) < size and (part := connection.recv(65536)):
            data += part
    return data


def first_image(connection: ClientConnection) -> bytes:
    while True:
        message = connection.recv(timeout=5)
        if isinstance(message, bytes):
            return message
