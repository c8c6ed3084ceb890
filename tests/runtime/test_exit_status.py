"""The exit status tells whether every source was there at the end, however a run ended."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_runs import MAIN, PROGRAM

from emotion_runtime.cli import main
from emotion_runtime.stop_signals import StopRequest

# A camera that gives 25 images per second; its device number says when it is unplugged.
CAMERAS = """
import time, datetime
import numpy as np
from emotion_runtime.sources import camera
from emotion_runtime.errors import ConnectionLost
from emotion_runtime.sources.shots import Shot

def connect_to(uri):
    most = int(uri)
    def connect(stop):
        for index in range(most):
            if stop.wait(0.04):
                return
            now = datetime.datetime.now(datetime.timezone.utc)
            yield Shot(np.full((96, 128, 3), index % 200, np.uint8), time.monotonic(), now)
        raise ConnectionLost("the cable was pulled", "device")
    return connect
camera.connect_camera = connect_to
"""


@pytest.fixture(scope="module")
def model(model: list[str]) -> list[str]:
    return [*model, "--no-show"]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port of this machine at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def lines(path: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, path.read_text().splitlines()) if line["type"] == kind]


def cameras(model: list[str], *arguments: str) -> list[str]:
    return [sys.executable, "-c", CAMERAS + MAIN, *model, *arguments]


@pytest.mark.slow
@pytest.mark.parametrize("limit", [["--duration", "1.5"], ["--max-frames", "20"]])
def test_camera_that_is_away_at_the_end_is_status_2(
    model: list[str], tmp_path: Path, closed_port: int, capsys: pytest.CaptureFixture[str], limit: list[str]
):
    jsonl = tmp_path / "out.jsonl"
    sources = ["--source", f"door=rtsp://user:secret@127.0.0.1:{closed_port}/x", "--source", "demo"]
    status = main([*sources, *model, "--realtime", "--jsonl", str(jsonl), *limit])
    printed = capsys.readouterr().err
    assert status == 2
    last = printed.splitlines()[-1]
    assert last.startswith("emotion-runtime: error: source door was lost at 20")
    assert "the connection was refused" in last
    assert "secret" not in printed + jsonl.read_text()
    assert [line["status"] for line in lines(jsonl, "status")][:2] == ["connecting", "lost"]
    assert {line["source"] for line in lines(jsonl, "frame")} == {"demo"}


def test_duration_counts_by_the_clock_if_no_frame_comes(
    model: list[str], closed_port: int, capsys: pytest.CaptureFixture[str]
):
    start = time.monotonic()
    source = f"door=rtsp://127.0.0.1:{closed_port}/x"
    assert main(["--source", source, *model, "--duration", "0.5"]) == 2
    assert time.monotonic() - start < 10
    assert "door was lost" in capsys.readouterr().err


@pytest.mark.slow
def test_mistake_in_one_source_leaves_a_camera_alone(
    model: list[str], tmp_path: Path, closed_port: int, capsys: pytest.CaptureFixture[str]
):
    sources = [f"door=rtsp://127.0.0.1:{closed_port}/x", "ftp://a/b", "missing.mp4", "demo"]
    jsonl = tmp_path / "out.jsonl"
    arguments = [part for source in sources for part in ("--source", source)]
    assert main([*arguments, *model, "--jsonl", str(jsonl), "--max-frames", "5"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "3 sources failed" in last
    for words in ("begins with ftp://", "missing.mp4", "source door"):
        assert words in last
    assert len(lines(jsonl, "frame")) == 5


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_run_with_status_2_if_a_camera_was_lost(
    model: list[str], tmp_path: Path, number: signal.Signals
):
    jsonl = tmp_path / "out.jsonl"
    command = cameras(model, "--source", "good=100000", "--source", "bad=3", "--jsonl", str(jsonl))
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (jsonl.exists() and '"lost"' in jsonl.read_text()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        _, printed = process.communicate(timeout=60)
    assert process.returncode == 2, printed
    assert "source bad" in printed.splitlines()[-1]
    assert "source good" not in printed.splitlines()[-1]
    assert any(line.startswith("good: ") and "dropped" in line for line in printed.splitlines())
    assert any(line.startswith("bad: ") and "lost" in line for line in printed.splitlines())


@pytest.mark.slow
def test_cameras_that_are_live_at_the_end_are_status_0(model: list[str], tmp_path: Path):
    jsonl = tmp_path / "out.jsonl"
    arguments = ["--source", "a=100000", "--source", "b=100001", "--jsonl", str(jsonl), "--duration", "1"]
    done = subprocess.run(cameras(model, *arguments), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("a", "b"):
        statuses = [line["status"] for line in lines(jsonl, "status") if line["source"] == name]
        assert statuses[:2] == ["connecting", "live"]
        frames = [line for line in lines(jsonl, "frame") if line["source"] == name]
        assert len(frames) > 10
        assert all("time" in line for line in frames)


@pytest.mark.slow
def test_reader_that_leaves_ends_a_run_without_frames(model: list[str], closed_port: int):
    command = [*PROGRAM, "--source", f"door=rtsp://127.0.0.1:{closed_port}/x", *model]
    with subprocess.Popen(
        [*command, "--jsonl", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for kind in ("run", "status", "status"):  # connecting and lost: no other line comes
            assert json.loads(process.stdout.readline())["type"] == kind
        process.stdout.close()
        assert process.wait(30) == 2  # the camera was not live


def test_process_that_is_stuck_ends_with_the_status_of_its_rescue(monkeypatch: pytest.MonkeyPatch):
    ended: list[int] = []
    request = StopRequest()
    request.rescue_with(lambda: 2)
    monkeypatch.setattr("os._exit", ended.append)
    thread = threading.Thread(target=request._end)
    thread.start()
    thread.join(5)
    assert ended == [2]


def test_length_of_segments_needs_a_recording(capsys: pytest.CaptureFixture[str]):
    assert main(["--source", "demo", "--record-segment", "60"]) == 2
    assert "--record-segment needs a recording" in capsys.readouterr().err


@pytest.mark.parametrize("hanging", [True, False])
def test_a_thread_that_hangs_in_a_library_does_not_change_the_exit_status(hanging: bool):
    """Python would end it inside C++, which aborts the process; so it must not come to Python's own end."""
    code = (
        "import atexit, sys, threading, time\n"
        "from emotion_runtime.cli import main\n"
        "atexit.register(print, 'the end of Python')\n"
        f"if {hanging}: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "sys.argv = ['emotion-runtime', '--source', 'missing.mp4']\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "missing.mp4" in done.stderr
    assert ("the end of Python" in done.stdout) != hanging
