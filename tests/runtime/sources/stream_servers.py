"""Servers of streams for tests: a real one of RTSP, small ones of HTTP, and ones that misbehave."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from emotion_runtime.errors import ConnectionLost
from emotion_runtime.sources.network import connect_network
from emotion_runtime.sources.network_address import NetworkLimits
from emotion_runtime.sources.shots import Shot

SERVER = Path(__file__).resolve().parents[2] / "parts" / "rtsp_server.py"
PYTHON = "/usr/bin/python3"  # of the system, for which Debian's python3-gi is made
PASSWORD = "s3cret-pa55"  # noqa: S105 - looked for in everything that is printed

Answer = Callable[[BaseHTTPRequestHandler], None]
Talk = Callable[[socket.socket, threading.Event], None]

QUICK = NetworkLimits(opening=1.0, silence=1.0, every=0.1)


def shots_of(uri: str, count: int, limits: NetworkLimits = QUICK) -> list[Shot]:
    """Open a source once and return its first images."""
    shots = connect_network(uri, limits)(threading.Event())
    try:
        return list(islice(shots, count))
    finally:
        shots.close()


def lost(uri: str, limits: NetworkLimits = QUICK) -> ConnectionLost:
    """Read a source until it is lost, and check that the message holds no part of the address."""
    with pytest.raises(ConnectionLost) as caught:
        for _ in connect_network(uri, limits)(threading.Event()):
            pass
    message = str(caught.value)
    assert PASSWORD not in message
    assert "127.0.0.1" not in message
    assert "Invalid data" not in message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


def need_parts() -> None:
    """Skip the test where the parts are not installed; fail in CI, which installs them."""
    code = (
        "import gi; gi.require_version('GstRtspServer', '1.0'); "
        "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
        "assert all(map(Gst.ElementFactory.find, ('x264enc', 'x265enc', 'rtph264pay')))"
    )
    done = None
    if Path(PYTHON).exists():
        done = subprocess.run([PYTHON, "-c", code], capture_output=True, check=False)
    if done is None or done.returncode:
        reason = "GStreamer's RTSP server is not installed; see .ci/packages"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RtspServer:
    """A server of RTSP in a process of its own, at 127.0.0.1 unless a namespace is given.

    Args:
        arguments: See the script.
        prefix: Command that runs the server elsewhere, such as ip netns exec.
    """

    def __init__(self, *arguments: str, prefix: tuple[str, ...] = ()) -> None:
        need_parts()
        self.port = free_port()
        self._command = [*prefix, PYTHON, str(SERVER), str(self.port), *arguments]
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def uri(self, user: str = "", host: str = "127.0.0.1", path: str = "cam") -> str:
        return f"rtsp://{user + '@' if user else ''}{host}:{self.port}/{path}"

    def start(self, *arguments: str) -> None:
        """Start the server, with further arguments, of which the last of a kind counts."""
        self.process = subprocess.Popen([*self._command, *arguments], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@contextmanager
def rtsp_server(*arguments: str, prefix: tuple[str, ...] = ()) -> Iterator[RtspServer]:
    server = RtspServer(*arguments, prefix=prefix)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def http_server(answers: dict[str, Answer], wrap: Callable[[Any], Any] | None = None) -> Iterator[str]:
    """Serve each path by a function of the request, and yield HOST:PORT."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = answers.get(self.path.partition("?")[0])
            with suppress(OSError):  # the client is gone
                self.send_error(404) if answer is None else answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    if wrap is not None:
        server.socket = wrap(server.socket)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def raw_server(talk: Talk) -> Iterator[int]:
    """Accept connections, hand each to a function in a thread of its own, and yield the port."""
    over = threading.Event()

    def guarded(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            talk(connection, over)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=guarded, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield int(listener.getsockname()[1])
        over.set()


def silent(_: socket.socket, over: threading.Event) -> None:
    """Say nothing."""
    over.wait(60)


def garbage(connection: socket.socket, _: threading.Event) -> None:
    """Send random bytes."""
    connection.sendall(np.random.default_rng(0).bytes(100_000))


def drips(text: bytes) -> Talk:
    """Return what sends a text one byte each 50 ms, again and again."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        while not over.is_set():
            for byte in text:
                connection.sendall(bytes([byte]))
                if over.wait(0.05):
                    return

    return talk


def endless(text: bytes) -> Talk:
    """Return what sends a text without end."""

    def talk(connection: socket.socket, over: threading.Event) -> None:
        while not over.is_set():
            connection.sendall(text * 1000)

    return talk


def jpeg(level: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """Return a JPEG of one grey level."""
    done, data = cv2.imencode(".jpg", np.full((size[1], size[0], 3), level, np.uint8))
    assert done
    return data.tobytes()


def send_mjpeg(
    request: BaseHTTPRequestHandler, images: Iterator[bytes], *, rate: float = 15, length: bool = True
) -> None:
    """Send images as Motion JPEG."""
    request.send_response(200)
    request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
    request.end_headers()
    wait = threading.Event()
    for image in images:
        stated = f"Content-Length: {len(image)}\r\n" if length else ""
        head = f"--frame\r\nContent-Type: image/jpeg\r\n{stated}\r\n"
        request.wfile.write(head.encode() + image + b"\r\n")
        wait.wait(1 / rate)


def send(request: BaseHTTPRequestHandler, kind: str, data: bytes, status: int = 200) -> None:
    """Send one whole answer."""
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)


def redirect(target: str) -> Answer:
    """Return what sends a client to another address."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", target)
        request.end_headers()

    return answer


def levels(shots: list[Shot]) -> list[int]:
    return [round(float(shot.image.mean())) for shot in shots]
