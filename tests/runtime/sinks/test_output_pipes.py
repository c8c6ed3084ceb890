"""Outputs into pipes and standard output: waiting for a reader, and one that leaves."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from threading import Event

import pytest
from sample_events import RUN, event, frame, person

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks.group import SinkGroup
from emotion_runtime.sinks.jsonl import JsonlSink


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_named_pipe_without_a_reader_waits_until_the_run_is_stopped(fifo: Path) -> None:
    stopped = Event()
    threading.Timer(0.3, stopped.set).start()
    start = time.monotonic()
    sink = JsonlSink(str(fifo), run=RUN, stopped=stopped)
    assert time.monotonic() - start < 1.5
    assert not sink.write(frame(), event())
    sink.close()


def test_named_pipe_without_a_reader_is_an_error_in_the_end(
    fifo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emotion_runtime.sinks.byte_output._NO_READER", 0.2)
    with pytest.raises(EmotionError, match="start the reader first"):
        JsonlSink(str(fifo))


def test_reader_that_leaves_a_named_pipe_is_a_normal_end(fifo: Path) -> None:
    received: list[bytes] = []

    def read_one() -> None:
        with fifo.open("rb") as reader:
            received.append(reader.readline())

    thread = threading.Thread(target=read_one)
    thread.start()
    sinks = SinkGroup([JsonlSink(str(fifo), run=RUN)])
    thread.join()
    wanted = [sinks.write(frame(index), event(frame=index)) for index in range(3)]
    sinks.close()
    assert not wanted[-1]
    assert sinks.failures == []
    assert json.loads(received[0])["type"] == "run"


def test_reader_that_no_longer_reads_does_not_hold_a_stop(fifo: Path) -> None:
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    stopped = Event()
    sink = JsonlSink(str(fifo), stopped=stopped)
    threading.Timer(0.5, stopped.set).start()
    start = time.monotonic()
    while sink.write(frame(), event(*(person(i, (0, 0, 9, 9)) for i in range(20)))):
        assert time.monotonic() - start < 5
    assert time.monotonic() - start < 2
    os.close(reader)


@pytest.mark.parametrize("closed", ["<&- >&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_give_no_traceback(tmp_path: Path, closed: str) -> None:
    log = tmp_path / "log"
    program = f"{sys.executable} -c 'import sys; from emotion_runtime.cli import main; sys.exit(main())'"
    arguments = "--source missing.mp4 --jsonl -"
    done = subprocess.run(
        ["/bin/sh", "-c", f"{program} {arguments} {closed}"], check=False, stderr=log.open("wb"), timeout=60
    )
    assert done.returncode == 2
    assert "Traceback" not in log.read_text()


def test_json_on_a_closed_standard_output_is_one_line() -> None:
    program = f"{sys.executable} -c 'import sys; from emotion_runtime.cli import main; sys.exit(main())'"
    for arguments in ("--source demo --jsonl - --max-frames 1", "--print-config"):
        done = subprocess.run(
            ["/bin/sh", "-c", f"{program} {arguments} >&-"], check=False, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("emotion-runtime: error: standard output is closed")


def test_what_libraries_print_is_not_among_the_results() -> None:
    """The camera source of a Jetson prints lines from C, to standard output; ONNX Runtime calls `print`."""
    program = """
import os, sys
from emotion_runtime.console import results_only_on_stdout, write_output
print("before")
with results_only_on_stdout():
    sys.stdout.buffer.write(b"result\\n")
    os.write(1, b"GST_ARGUS: Creating output stream\\n")
    print("EP Error")
    write_output("report\\n")
print("after")
os.write(1, b"end\\n")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == ["after", "before", "end", "report", "result"]
    assert done.stderr == "GST_ARGUS: Creating output stream\nEP Error\n"
