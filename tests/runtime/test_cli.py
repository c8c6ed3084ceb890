"""The command line in a real process: what it writes, and that no results are lost at a signal."""

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import av
import pytest
from command_runs import FRAMES, PROGRAM, RATE, events, run, write_video

from emotion_runtime import __version__
from emotion_runtime.cli import main

BOX = (16, 24, 48, 64)  # the person that the fixed detector returns


@dataclass(frozen=True)
class Finished:
    process: subprocess.CompletedProcess[str]
    jsonl: Path
    record: Path


@pytest.fixture(scope="module")
def finished(model: list[str], video: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Run the program once, in a process of its own."""
    folder = tmp_path_factory.mktemp("finished")
    jsonl, record = folder / "out.jsonl", folder / "out.mp4"
    return Finished(run("--source", video, *model, "--jsonl", jsonl, "--record", record), jsonl, record)


def test_file_is_written_to_jsonl_and_video(finished: Finished, video: Path):
    assert finished.process.returncode == 0, finished.process.stderr
    assert finished.process.stdout == ""
    lines = events(finished.jsonl)
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    assert [line["t"] for line in lines] == pytest.approx([i / RATE for i in range(FRAMES)], abs=1e-3)
    assert {(line["schema"], line["source"], line["latency_ms"], line["dropped"]) for line in lines} == {
        (2, str(video), 0.0, 0)
    }
    for line in lines:
        (person,) = line["persons"]
        assert person["box"] == pytest.approx(BOX, abs=0.5)
        assert sum(person["emotions"].values()) == pytest.approx(1, abs=1e-7)
        assert sum(person["raw"].values()) == pytest.approx(1, abs=1e-7)
        assert (person["top"] in person["emotions"]) == (person["state"] == "steady")
    # Encoded every 0.2 s from the first frame on; three embeddings are enough for a label.
    states = [line["persons"][0]["state"] for line in lines]
    assert states == ["new"] * 2 + ["warming"] * 2 + ["steady"] * (FRAMES - 4)
    with av.open(str(finished.record)) as container:
        images = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert len(images) == FRAMES
    assert images[-1].shape == (96, 128, 3)


def test_lines_at_the_end(finished: Finished):
    person, *_, line = finished.process.stderr.splitlines()
    # The person is seen from the third frame on at the latest; red means anger to the head.
    assert re.match(r"person 1: (2\.[89]|3\.0) s: .*anger \d+ %", person)
    assert line.startswith(f"emotion-runtime: {FRAMES} frames in ")
    for part in (" (first after ", " fps); ms per frame: ", "detect ", "; ONNX Runtime"):
        assert part in line


def test_two_runs_write_identical_jsonl(finished: Finished, model: list[str], video: Path, tmp_path: Path):
    again = tmp_path / "again.jsonl"
    assert run("--source", video, *model, "--jsonl", again).returncode == 0
    assert again.read_bytes() == finished.jsonl.read_bytes()


def test_closed_pipe_ends_the_run_quietly(model: list[str], video: Path):
    command = [*PROGRAM, "--source", str(video), *model, "--jsonl", "-", "--realtime"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        json.loads(process.stdout.readline())
        process.stdout.close()  # as `head -1` does
        stderr = process.stderr.read()
        assert process.wait(60) == 0, stderr
    assert "Traceback" not in stderr
    assert "BrokenPipe" not in stderr


def test_max_frames_and_duration(model: list[str], video: Path, tmp_path: Path):
    jsonl = tmp_path / "out.jsonl"
    assert main(["--source", str(video), *model, "--jsonl", str(jsonl), "--max-frames", "7"]) == 0
    assert len(events(jsonl)) == 7
    assert main(["--source", str(video), *model, "--jsonl", str(jsonl), "--duration", "0.55"]) == 0
    assert [line["frame"] for line in events(jsonl)] == [0, 1, 2, 3, 4, 5]


def test_duration_is_that_of_each_source(model: list[str], video: Path, tmp_path: Path):
    """A file of 10 and one of 5 frames per second give a second each, side by side."""
    slow = write_video(tmp_path / "slow.avi", 15, rate=5)
    jsonl = tmp_path / "out.jsonl"
    sources = ["--source", str(video), "--source", str(slow)]
    assert main([*sources, *model, "--jsonl", str(jsonl), "--duration", "1"]) == 0
    lines = events(jsonl)
    assert [line["t"] for line in lines if line["source"] == str(video)] == pytest.approx(
        [index / 10 for index in range(10)], abs=1e-3
    )
    assert [line["t"] for line in lines if line["source"] == str(slow)] == pytest.approx(
        [index / 5 for index in range(5)], abs=1e-3
    )
    assert [line["t"] for line in lines] == sorted(line["t"] for line in lines)


def test_another_head_and_smoothing_off(model: list[str], video: Path, tmp_path: Path):
    jsonl = tmp_path / "out.jsonl"
    options = ["--jsonl", str(jsonl), "--head", "opposite", "--smoothing", "0"]
    assert main(["--source", str(video), *model, *options]) == 0
    (person,) = events(jsonl)[-1]["persons"]
    assert person["emotions"] == person["raw"]
    assert person["emotions"]["anger"] == min(
        person["emotions"].values()
    )  # red means anger to the default head


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_the_run_and_flushes_all_outputs(
    model: list[str], tmp_path: Path, number: signal.Signals
):
    long = write_video(tmp_path / "long.avi", 600)
    jsonl, record = tmp_path / "out.jsonl", tmp_path / "out.mp4"
    command = [*PROGRAM, "--source", str(long), *model, "--realtime", "--jsonl", str(jsonl)]
    command += ["--record", str(record)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (jsonl.exists() and jsonl.read_text().count("\n") >= 5):
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline, "no events within a minute"
            time.sleep(0.05)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "Traceback" not in stderr
    lines = events(jsonl)  # every line parses
    assert len(lines) >= 4
    assert lines[-1]["frame"] < 599  # it did not just play to the end
    with av.open(str(record)) as container:  # an MP4 without its index would not open
        assert sum(1 for _ in container.decode(video=0)) >= len(lines)


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"emotion-runtime {__version__}\n")


def test_help_does_not_import_heavy_libraries():
    code = (
        "import sys; from emotion_runtime.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print([m for m in ('numpy', 'cv2', 'onnxruntime', 'av') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"
