"""The command with `--serve`: from the first line to the end by a signal."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import served  # skips where the extra is missing
from demo_camera import demo_camera
from mosquitto_server import PASSWORD, USER, Mosquitto, free_port
from PIL import Image
from skimage import data
from websockets.sync.client import connect

from emotion_runtime.cli import main
from emotion_runtime.detectors.centerface import CenterFace

COMMAND = [sys.executable, "-m", "emotion_runtime", "--no-show"]
TOKEN = "a-token-of-more-than-16-characters"  # noqa: S105 - of the tests


@pytest.fixture(scope="module")
def camera() -> Iterator[str]:
    with demo_camera() as address:
        yield address


@dataclass
class ServedProgram:
    """A run of the command, and a client of its page.

    Attributes:
        process: The run.
        errors: What it has printed.
        address: What it has printed as the address of its page.
        headers: Go with every request.
    """

    process: subprocess.Popen[str]
    errors: list[str]
    address: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        port = self.address.partition("//")[2].partition("/")[0].rpartition(":")[2]
        return f"127.0.0.1:{port}"

    def open(self, method: str, path: str, body: bytes | None = None, **headers: str) -> HTTPResponse:
        connection = HTTPConnection(self.host, timeout=30)
        connection.request(method, path, body, self.headers | headers)
        return connection.getresponse()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        with self.open(method, path, body, **headers) as response:
            return response.status, response.read()

    def json(self, path: str) -> Any:
        return json.loads(self.ask("GET", path)[1])

    def wait_for(self, found: Callable[[Any], Any], path: str = "/summary") -> Any:
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            value = found(self.json(path))
            if value:
                return value
            time.sleep(0.2)
        return pytest.fail("nothing happened in 60 s")

    def watch(self, count: int) -> list[tuple[dict[str, Any], np.ndarray[Any, Any]]]:
        """Return the headers and images of so many frames."""
        found: list[tuple[dict[str, Any], np.ndarray[Any, Any]]] = []
        with connect(f"ws://{self.host}/watch", compression=None, additional_headers=self.headers) as viewer:
            for message in viewer:
                if isinstance(message, bytes):
                    length = int.from_bytes(message[:4], "big")
                    header = json.loads(message[4 : 4 + length])
                    found.append((header, decoded(message[4 + length :])))
                if len(found) == count:
                    break
        return found

    def motion_jpeg(self) -> np.ndarray[Any, Any]:
        """Return one image of the stream."""
        with self.open("GET", "/stream.mjpg?source=door") as response:
            data = b""
            while data.count(b"--frame") < 2:
                data += response.read1()
        begin = data.index(b"\xff\xd8")
        return decoded(data[begin : data.index(b"\r\n--frame", begin)])

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(20) == 0, "".join(self.errors)


def decoded(data: bytes) -> np.ndarray[Any, Any]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


@contextmanager
def running(*arguments: str, **environment: str) -> Iterator[ServedProgram]:
    """Run the command until the block ends."""
    process = subprocess.Popen(
        [*COMMAND, *arguments], stderr=subprocess.PIPE, text=True, env=os.environ | environment
    )
    try:
        assert process.stderr is not None
        errors = []
        for line in process.stderr:
            errors.append(line)
            if "page: http" in line:
                break
        else:
            pytest.fail("".join(errors))
        reader = threading.Thread(target=errors.extend, args=(process.stderr,), daemon=True)
        reader.start()
        found = re.search(r"http://\S+", errors[-1])
        assert found is not None
        yield ServedProgram(process, errors, found[0])
        reader.join(10)
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_run_is_served_until_it_ends(tmp_path: Path, camera: str):
    arguments = ["--source", f"door={camera}", "--serve", "127.0.0.1:0", "--serve-cameras"]
    with running(*arguments, "--jsonl", str(tmp_path / "out.jsonl"), "--duration", "120") as program:
        header, image = program.watch(1)[0]
        assert image.shape[:2] == (header["height"], header["width"])
        assert program.wait_for(lambda view: view["shares"])
        photo = BytesIO()
        Image.fromarray(data.astronaut()).save(photo, "JPEG")
        status, body = program.ask("POST", "/analyze", photo.getvalue())
        assert status == 200
        persons = json.loads(body)["persons"]
        assert [(each["id"], each["state"], set(each["emotions"]) >= {"happiness"}) for each in persons] == [
            (1, "photo", True)
        ]
        assert program.ask("GET", "/readyz")[0] == 200
        metrics = program.ask("GET", "/metrics")[1]
        assert b"emotion_stage_seconds_bucket" in metrics
        assert b'emotion_capture_to_event_seconds_bucket{le="2.5",source="door"}' in metrics
        kind = {"content-type": "application/json"}
        for text, status in ((f"gate={camera}", 409), (f"gate={camera}?2", 201)):  # the first is open already
            uri = json.dumps({"uri": text}).encode()
            assert program.ask("POST", "/cameras", uri, **kind)[0] == status
        program.wait_for(lambda found: len(found["cameras"]) == 2 and found["cameras"][1]["fps"], "/cameras")
        assert b"door, gate" in program.ask("GET", "/notice")[1]
        assert program.ask("DELETE", "/cameras?name=gate")[0] == 200
        assert program.ask("POST", "/cameras/pause", b'{"name": "door"}', **kind)[0] == 200
        program.wait_for(lambda found: [one["status"] for one in found["cameras"]] == ["paused"], "/cameras")
        assert program.ask("POST", "/cameras/resume", b'{"name": "door"}', **kind)[0] == 200
        program.wait_for(lambda found: found["cameras"][0]["status"] == "live", "/cameras")
        program.interrupt()
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["options"].keys().isdisjoint({"serve", "token_file"})
    assert not any("<photo" in line for line in lines)


@pytest.mark.slow
def test_what_is_private_stays_so_on_the_page(tmp_path: Path, camera: str):
    """Blur, a zone, no ids, a broker and a token together; everything that left is looked through."""
    (tmp_path / "token").write_text(TOKEN)
    broker = Mosquitto(tmp_path, free_port())
    broker.start()
    arguments = [
        "--source",
        f"door={camera}",
        "--serve",
        "0.0.0.0:0",
        "--token-file",
        str(tmp_path / "token"),
    ]
    arguments += ["--blur", "faces", "--zone", "0,0,0.1,1", "--no-ids", "--log-format", "json"]
    arguments += ["--mqtt", f"mqtts://{USER}:${{MQTT_PASSWORD}}@localhost:{broker.port}/home"]
    arguments += ["--mqtt-ca", str(broker.ca), "--jsonl", str(tmp_path / "out.jsonl")]
    left: list[bytes] = []
    try:
        with broker.watched() as watcher, running(*arguments, MQTT_PASSWORD=PASSWORD) as program:
            assert program.ask("GET", "/summary")[0] == 401
            program.headers["Authorization"] = f"Bearer {TOKEN}"
            program.wait_for(lambda view: view["shares"])
            watcher.wait_for("home/door/events")
            watched = program.watch(8)
            images = [*(image for _, image in watched[::3]), program.motion_jpeg()]
            with program.open("GET", "/events") as response:
                left.append(response.read(8000))
            photo = BytesIO()
            Image.fromarray(data.astronaut()).save(photo, "JPEG")
            left += [program.ask("POST", "/analyze", photo.getvalue())[1]]
            left += [
                program.ask("GET", path)[1] for path in ("/summary", "/metrics", "/cameras", "/notice", "/")
            ]
            left += [program.ask("GET", f"/{TOKEN}?token={TOKEN}")[1], program.ask("PUT", "/events")[1]]
            left += [json.dumps(header).encode() for header, _ in watched]
            command = Path(f"/proc/{program.process.pid}/cmdline").read_bytes()
            program.interrupt()
            left += [payload for _, payload, _ in watcher.messages]
    finally:
        broker.kill()
    left += [(tmp_path / "out.jsonl").read_bytes(), "".join(program.errors).encode(), command]
    for each in left:
        assert TOKEN.encode() not in each
        assert PASSWORD.encode() not in each
        assert b'"id"' not in each
    assert b'"emotions"' in left[0]
    find = CenterFace(threads=1, score=0.3)
    for image in images:
        assert not len(find(image).scores)
        assert np.ptp(image[:, :40].astype(int)) < 40  # the zone is filled with one colour


@pytest.mark.slow
def test_a_run_that_publishes_counts_serves_nothing_else():
    with running("--source", "demo", "--realtime", "--serve", "0.0.0.0:0", "--aggregate", "2") as program:
        token = program.address.partition("token=")[2]
        assert program.ask("GET", "/summary")[0] == 401
        program.headers["Authorization"] = f"Bearer {token}"
        assert program.ask("GET", "/stream.mjpg")[0] == 403
        assert program.ask("POST", "/analyze", b"x")[0] == 403
        with program.open("GET", "/events") as response:
            lines = [json.loads(line[6:]) for line in response if line.startswith(b"data: {")]
        assert program.process.wait(20) == 0
    assert [line["type"] for line in lines] == ["run", "status", "aggregate"]
    assert lines[1]["status"] == "ended"
    assert lines[2]["people"] == sum(lines[2]["counts"].values()) == 2
    assert sum(token in line for line in program.errors) == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--serve", "8080"], "expected HOST:PORT"),
        (["--serve", "127.0.0.1:99999"], "expected HOST:PORT"),
        (["--token-file", "token"], "give --serve HOST:PORT, too"),
        (["--serve-cameras"], "give --serve HOST:PORT, too"),
        (["--serve", "127.0.0.1:0", "--serve-cameras", "--zone", "demo=0,0,0.5,1"], "zones without SOURCE="),
        (["--notice-who", "us"], "give --serve HOST:PORT, too"),
        (["--serve", "127.0.0.1:0", "--token-file", "/nonexistent/token"], "cannot be read"),
        (["--serve", "192.0.2.1:8080"], "this machine has no such address"),
    ],
)
def test_mistakes_end_in_one_line(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]):
    assert main(["--source", "demo", "--no-show", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert problem in lines[-1]
    assert sum("error:" in line for line in lines) == 1


def test_a_port_in_use_is_a_mistake(capsys: pytest.CaptureFixture[str]):
    with served.serving(served.WebOptions(place="127.0.0.1:0")) as found:
        place = f"127.0.0.1:{found.port}"
        assert main(["--source", "demo", "--no-show", "--serve", place]) == 2
    assert "another program uses this port" in capsys.readouterr().err


def test_without_the_extra_the_fix_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    for name in [each for each in sys.modules if each.startswith(("uvicorn", "emotion_runtime.web.server"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "emotion_runtime.web.opening", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["--source", "demo", "--no-show", "--serve", "127.0.0.1:0"]) == 2
    assert "pip install '.[web]'" in capsys.readouterr().err
