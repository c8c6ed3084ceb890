"""The command with streams: events while a server dies, the exit status, and no password anywhere."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stream_servers import PASSWORD, http_server, jpeg, rtsp_server, send_mjpeg

USER = f"joe:{PASSWORD}"


def lines_of(path: Path) -> list[dict[str, Any]]:
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_for(path: Path, condition: Callable[[list[dict[str, Any]]], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition(lines_of(path)):
        assert time.monotonic() < end, lines_of(path)[-20:]
        time.sleep(0.05)


def start(path: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "emotion_runtime", "--no-show", "--jsonl", str(path), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def frames(lines: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] == "frame" and line["source"] == name]


def statuses(lines: list[dict[str, Any]], name: str) -> list[str]:
    return [line["status"] for line in lines if line["type"] == "status" and line["source"] == name]


def check_secrets(path: Path, *texts: str) -> None:
    for text in (path.read_text(), *texts):
        assert PASSWORD not in text
        assert "127.0.0.1" not in text


@pytest.mark.slow
def test_events_while_a_server_dies_and_comes_back(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    with (
        rtsp_server("--user", USER) as server,
        http_server({"/cam": lambda request: send_mjpeg(request, map(jpeg, [50, 90] * 1000))}) as place,
    ):
        uri = f"door={server.uri(USER)}"
        program = start(path, "--source", uri, "--source", f"yard=http://{USER}@{place}/cam")
        try:
            wait_for(path, lambda lines: len(frames(lines, "door")) > 5 and len(frames(lines, "yard")) > 5)
            server.kill()
            wait_for(path, lambda lines: "lost" in statuses(lines, "door"))
            before = lines_of(path)
            time.sleep(1)
            assert len(frames(lines_of(path), "yard")) > len(frames(before, "yard")) + 3
            server.start()
            seen = len(frames(before, "door"))
            wait_for(path, lambda lines: len(frames(lines, "door")) > seen + 5)
            program.send_signal(signal.SIGINT)
            out, errors = program.communicate(timeout=20)
        finally:
            program.kill()
    assert program.returncode == 0, errors
    lines = lines_of(path)
    assert "lost" not in statuses(lines, "yard")
    indices = [line["frame"] for line in frames(lines, "door")]
    assert indices == sorted(set(indices))
    assert "source door is lost: the server ended the connection" in errors
    check_secrets(path, out, errors)


@pytest.mark.slow
def test_exit_status_2_lists_the_sources_that_were_lost(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    with http_server({"/cam": lambda request: send_mjpeg(request, map(jpeg, [50, 90] * 500))}) as place:
        program = start(
            path, "--duration", "2",
            "--source", f"yard=http://{USER}@{place}/cam",
            "--source", f"gate=rtsp://{USER}@127.0.0.1:9/cam",
            "--source", f"hall=http://{USER}@{place}/missing",
        )  # fmt: skip
        out, errors = program.communicate(timeout=60)
    assert program.returncode == 2
    assert len(frames(lines_of(path), "yard")) > 10
    last = errors.splitlines()[-1]
    assert "gate" in last
    assert "hall" in last
    assert "yard" not in last
    check_secrets(path, out, errors)
