"""The command with `--serve`: from the first line to the end by a signal."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import served  # skips where the extra is missing
from PIL import Image
from skimage import data
from websockets.sync.client import connect

from emotion_runtime.cli import main

COMMAND = [sys.executable, "-m", "emotion_runtime", "--source", "demo", "--realtime", "--no-show"]


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command. The values are the process and the address that it prints."""
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "page: http" in line:
                break
        else:
            pytest.fail("".join(lines))
        yield process, re.search(r"http://\S+", lines[-1])[0]  # type: ignore[index]
    finally:
        process.kill()
        process.wait()


def ask(address: str, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    host = address.partition("//")[2].partition("/")[0]
    connection = HTTPConnection(host, timeout=30)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def wait_for(address: str, found: Any) -> Any:
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        value = found(json.loads(ask(address, "GET", "/summary")[1]))
        if value:
            return value
        time.sleep(0.2)
    return pytest.fail("nothing happened in 60 s")


@pytest.mark.slow
def test_a_run_is_served_until_it_ends(tmp_path: Path):
    with running("--serve", "127.0.0.1:0", "--jsonl", str(tmp_path / "out.jsonl")) as (process, address):
        host = address.partition("//")[2].partition("/")[0]
        with connect(f"ws://{host}/watch", compression=None) as viewer:
            message = next(each for each in viewer if isinstance(each, bytes))
        length = int.from_bytes(message[:4], "big")
        header = json.loads(message[4 : 4 + length])
        assert Image.open(BytesIO(message[4 + length :])).size == (header["width"], header["height"])
        assert wait_for(address, lambda view: view["shares"])
        photo = BytesIO()
        Image.fromarray(data.astronaut()).save(photo, "JPEG")
        status, body = ask(address, "POST", "/analyze", photo.getvalue())
        assert status == 200
        persons = json.loads(body)["persons"]
        assert [(each["state"], set(each["emotions"]) >= {"happiness"}) for each in persons] == [
            ("photo", True)
        ]
        assert ask(address, "GET", "/readyz")[0] == 200
        assert b"emotion_stage_seconds_bucket" in ask(address, "GET", "/metrics")[1]
        cameras = json.loads(ask(address, "GET", "/cameras")[1])["cameras"]
        assert [each["name"] for each in cameras] == ["demo"]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["options"].keys().isdisjoint({"serve", "token_file"})
    assert not any("<photo" in line for line in lines)


@pytest.mark.slow
def test_a_run_for_other_machines_needs_the_token_that_it_prints():
    with running("--serve", "0.0.0.0:0") as (_, address):
        token = address.partition("token=")[2]
        local = re.sub(r"//[^:]+", "//127.0.0.1", address)
        assert ask(local, "GET", "/summary")[0] == 401
        assert ask(local, "GET", "/summary", Authorization=f"Bearer {token}")[0] == 200


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--serve", "8080"], "expected HOST:PORT"),
        (["--serve", "127.0.0.1:99999"], "expected HOST:PORT"),
        (["--token-file", "token"], "give --serve HOST:PORT, too"),
        (["--serve-cameras"], "give --serve HOST:PORT, too"),
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
    assert "pip install 'emotion-runtime[web]'" in capsys.readouterr().err
