"""Signals end a run with its results whatever it waits for; closed terminals and streams are no crash."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_runs import MAIN

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this platform has no SIGHUP"),
]

SECONDS = 3.0  # a run ends within one; three allow for a busy machine
LINES = 3  # of JSON before the wait, at least

# Waits that no Python code can end: for a lock that is never free, in a library.
STUCK = "import threading; lock = threading.Lock(); lock.acquire()\ndef wait(): lock.acquire()\n"
LIBRARY = "import ctypes\ndef wait():\n    while True: ctypes.CDLL(None).sleep(1000)\n"
# Results alone go to standard output while a run lasts; what is printed goes to standard error.
SOURCE = """
import sys
import emotion_runtime.sources.demo as demo
whole = demo.read_demo
def frames():
    for frame in whole():
        if frame.index == 4:
            sys.stdout.buffer.write(b"waiting\\n")
            sys.stdout.buffer.flush()
            wait()
        yield frame
demo.read_demo = frames
"""
MODEL = """
import sys
import emotion_runtime.open_pipeline as opening
def load_bundle(_):
    sys.stdout.buffer.write(b"waiting\\n")
    sys.stdout.buffer.flush()
    wait()
opening.load_bundle = load_bundle
"""
SINK = """
import emotion_runtime.sinks.group as group
group.SinkGroup.close = lambda self: wait()
"""


class Run:
    """The command line on the demo scene with some of its parts replaced."""

    def __init__(self, folder: Path, patches: str, *options: str) -> None:
        self.jsonl = folder / "out.jsonl"
        command = [
            sys.executable,
            "-c",
            patches + MAIN,
            "--source",
            "demo",
            "--jsonl",
            str(self.jsonl),
            *options,
        ]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()  # an error ends the output
        assert line == "waiting\n", self.process.communicate()[1]

    def end(self, *numbers: signal.Signals, gap: float = 0.02) -> tuple[int, str]:
        """Send signals; return the exit status and what was written to standard error."""
        start = time.monotonic()
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(gap)
        try:
            _, stderr = self.process.communicate(timeout=60)
        finally:
            self.process.kill()
        assert time.monotonic() - start < SECONDS + gap * len(numbers), stderr
        assert "Traceback" not in stderr
        return self.process.returncode, stderr

    def lines(self) -> int:
        return sum(json.loads(line)["type"] == "frame" for line in self.jsonl.read_text().splitlines())


def test_source_that_hangs_in_a_library(tmp_path: Path) -> None:
    run = Run(tmp_path, LIBRARY + SOURCE)
    status, stderr = run.end(signal.SIGINT)
    assert status == 0, stderr
    assert run.lines() >= LINES


def test_source_that_hangs_in_real_time(tmp_path: Path) -> None:
    run = Run(tmp_path, LIBRARY + SOURCE, "--realtime", "--backend", "cpu")
    assert run.end(signal.SIGTERM)[0] == 0
    assert run.lines() >= 1


def test_models_that_load_for_long(tmp_path: Path) -> None:
    status, stderr = Run(tmp_path, STUCK + MODEL).end(signal.SIGTERM)
    assert status == 0
    assert "stopped before the first frame" in stderr


def test_signals_that_come_together_are_one(tmp_path: Path) -> None:
    run = Run(tmp_path, STUCK + SOURCE)
    assert run.end(signal.SIGHUP, signal.SIGTERM, signal.SIGTERM)[0] == 0
    assert run.lines() >= LINES


def test_second_signal_kills(tmp_path: Path) -> None:
    run = Run(tmp_path, STUCK + SOURCE + SINK)
    assert run.end(signal.SIGTERM, signal.SIGTERM, gap=0.5)[0] in (-signal.SIGTERM, 128 + signal.SIGTERM)


def test_terminal_that_closes(tmp_path: Path) -> None:
    """The shell of a real terminal ends: SIGHUP, and standard error that cannot be written."""
    master, slave = os.openpty()
    jsonl = tmp_path / "out.jsonl"
    command = [sys.executable, "-c", LIBRARY + SOURCE + MAIN, "--source", "demo", "--jsonl", str(jsonl)]
    process = subprocess.Popen(
        command, stdin=slave, stdout=subprocess.PIPE, stderr=slave, start_new_session=True
    )
    os.close(slave)
    assert process.stdout is not None
    assert process.stdout.readline() == b"waiting\n"
    os.close(master)  # writing to the terminal fails from now on
    process.send_signal(signal.SIGHUP)
    assert process.wait(SECONDS) == 0
    assert jsonl.read_text().count("\n") >= LINES


def shell(redirection: str, *options: str) -> subprocess.CompletedProcess[str]:
    arguments = " ".join(options)
    return subprocess.run(
        ["sh", "-c", f'"$0" -m emotion_runtime {arguments} {redirection}', sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("redirection", ["2>&-", ">&- 2>&- <&-", "2>/dev/full"])
def test_closed_standard_error_is_no_crash(tmp_path: Path, redirection: str) -> None:
    jsonl = tmp_path / "out.jsonl"
    done = shell(redirection, "--source demo --max-frames 3 --jsonl", str(jsonl))
    assert done.returncode == 0, done.stderr
    # Nothing but results in the file: a library's messages do not go into it.
    assert [json.loads(line)["schema"] for line in jsonl.read_text().splitlines()] == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("redirection", "reason"), [(">&-", "standard output is closed"), (">/dev/full", "No space left")]
)
@pytest.mark.parametrize("options", ["--print-config", "--source demo --max-frames 3 --jsonl -"])
def test_standard_output_that_cannot_be_written_is_one_line(
    redirection: str, reason: str, options: str
) -> None:
    done = shell(redirection, options)
    assert done.returncode == 2, done.stderr
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("options", ["--print-config", "--source demo --max-frames 20 --jsonl -"])
def test_reader_that_leaves_early_is_no_error(options: str) -> None:
    done = shell("| true", options)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
