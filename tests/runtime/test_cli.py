"""The command line in a real process: exit status, one line per mistake, no results lost at a signal."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from emotion_runtime import __version__
from emotion_runtime.cli import main
from emotion_runtime.console import OneLineParser
from emotion_runtime.errors import EmotionError
from made_videos import write_images

PROGRAM = [sys.executable, "-c", "import sys; from emotion_runtime.cli import main; sys.exit(main())"]
BOX = (16, 24, 48, 64)  # the person that the fixed detector returns
FRAMES, RATE = 30, 10
FILL = (46, 42, 40)  # BGR of a zone


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write 3 seconds of 128 x 96 that fade from black to red."""
    return write_video(tmp_path_factory.mktemp("video") / "red.avi", FRAMES)


def write_video(path: Path, frames: int, rate: int = RATE) -> Path:
    """Write images of 128 x 96 that fade from black to red."""
    images = np.zeros((frames, 96, 128, 3), np.uint8)
    images[..., 0] = np.minimum(8 * np.arange(frames), 255)[:, None, None]
    return write_images(path, images, rate, codec="mjpeg", pixels="yuvj420p")


@pytest.fixture(scope="module")
def model(tiny_bundle: Path, fixed_detector: Path) -> list[str]:
    return ["--bundle", str(tiny_bundle), "--detector", str(fixed_detector), "--backend", "cpu"]


def run(*arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


def events(path: Path) -> list[dict]:
    """Return the lines of frames; the first line of the file is about the run."""
    run, *frames = (json.loads(line) for line in path.read_text().splitlines())
    assert run["type"] == "run"
    assert all(line["type"] == "frame" for line in frames)
    return frames


def mistake(status: int, stderr: str, *, before: int = 0) -> str:
    """Return the message of a run that ended with a user's mistake, after some lines about its results."""
    lines = stderr.splitlines()
    assert status == 2, stderr
    assert len(lines) == before + 1, stderr
    assert lines[-1].startswith("emotion-runtime: error: ")
    return lines[-1]


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


def test_folder_of_videos_is_processed_file_by_file_and_continued(
    model: list[str], video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    videos, results = tmp_path / "videos", tmp_path / "results"
    videos.mkdir()
    for name in ("a.avi", "b.avi", "c.avi"):
        shutil.copy(video, videos / name)
    argv = ["--source", str(videos), *model, "--jsonl", f"{results}/"]
    assert main([*argv, "--max-frames", "40"]) == 0  # stops in the second file
    assert sorted(path.name for path in results.iterdir()) == ["a.avi.jsonl", "b.avi.jsonl.partial"]
    (videos / "d.avi").write_bytes(video.read_bytes()[: len(video.read_bytes()) // 2])
    complete = (results / "a.avi.jsonl").read_bytes()
    capsys.readouterr()
    for finished in (1, 3):
        assert main(argv) == 2
        printed = capsys.readouterr().err
        assert f"{finished} of 4 files were finished by an earlier run" in printed
        assert "d.avi failed" in printed.splitlines()[-1]
        assert printed.count("person 1: ") == 4 - finished
    names = sorted(path.name for path in results.iterdir())
    assert names == ["a.avi.jsonl", "b.avi.jsonl", "c.avi.jsonl", "d.avi.jsonl.partial"]
    assert [len(events(results / name)) for name in names[:3]] == [FRAMES] * 3
    assert complete == (results / "a.avi.jsonl").read_bytes()
    assert main([*argv, "--smoothing", "0", "--max-frames", "1"]) == 0  # other options: another run
    assert "finished by an earlier run" not in capsys.readouterr().err


def test_folder_of_results_keeps_the_names_of_sources(model: list[str], video: Path, tmp_path: Path):
    """So that zones, which are given by name, are those of a run without the folder."""
    (tmp_path / "videos").mkdir()
    shutil.copy(video, tmp_path / "videos" / "a.avi")
    sources = [f"--source=door={video}", f"--source=more={tmp_path / 'videos'}", "--zone=door=0,0,1,1"]
    outputs = ["--jsonl", f"{tmp_path}/results/", "--record", f"{tmp_path}/copies/"]
    assert main([*sources, *model, *outputs, "--max-frames", "50"]) == 0
    results = {path.name: events(path) for path in (tmp_path / "results").iterdir()}
    assert {name: {line["source"] for line in lines} for name, lines in results.items()} == {
        "door.jsonl": {"door"},
        "a.avi.jsonl.partial": {"more/a.avi"},
    }
    corners = {}
    for name in ("door", "a.avi"):
        with av.open(str(tmp_path / "copies" / f"{name}.mp4")) as container:
            corners[name] = next(container.decode(video=0)).to_ndarray(format="bgr24")[-8:, :8].mean((0, 1))
    assert corners["door"] == pytest.approx(FILL, abs=4)
    assert corners["a.avi"] != pytest.approx(FILL, abs=4)


def test_folder_of_results_needs_files(model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status = main(["--source", "demo", *model, "--jsonl", f"{tmp_path}/"])
    assert "is a folder, for results of files: demo is none" in mistake(status, capsys.readouterr().err)


def test_several_sources_in_one_run(model: list[str], video: Path, tmp_path: Path):
    other = shutil.copy(video, tmp_path / "other.avi")
    jsonl, record = tmp_path / "out.jsonl", tmp_path / "out.mp4"
    outputs = ["--jsonl", str(jsonl), "--record", str(record)]
    assert main(["--source", str(video), "--source", str(other), *model, *outputs]) == 0
    lines = events(jsonl)
    for name in (str(video), str(other)):
        own = [line for line in lines if line["source"] == name]
        assert [line["frame"] for line in own] == list(range(FRAMES))
        assert own[-1]["persons"][0]["id"] == 1
    assert record.exists()
    assert (tmp_path / "out-2.mp4").exists()


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


def test_truncated_file_keeps_the_results_so_far(
    model: list[str], video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    broken, jsonl = tmp_path / "broken.avi", tmp_path / "out.jsonl"
    content = video.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    status = main(["--source", str(broken), *model, "--jsonl", str(jsonl)])
    message = mistake(status, capsys.readouterr().err, before=3)
    lines = events(jsonl)
    assert 5 < len(lines) < FRAMES
    assert f"results for the {len(lines)} frames processed so far were saved" in message


def test_every_source_that_fails_is_told_after_the_results(
    model: list[str], video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    sources = ["--source", str(video)]
    for name in ("one.avi", "two.avi"):
        (tmp_path / name).write_bytes(video.read_bytes()[: len(video.read_bytes()) // 2])
        sources += ["--source", str(tmp_path / name)]
    status = main([*sources, *model])
    message = mistake(status, capsys.readouterr().err, before=6)  # two of them: each failure, at once
    assert "2 sources failed" in message
    assert "one.avi" in message
    assert "two.avi" in message


def test_bug_keeps_its_traceback(model: list[str], video: Path, tmp_path: Path):
    code = (
        "import sys; from emotion_runtime import cli, person; publish = person.PersonState.publish;"
        "person.PersonState.publish = lambda self, track, t, *rest: "
        "publish(self, track, t, *rest) if t < 0.15 else 1 / 0; sys.exit(cli.main())"
    )
    command = [sys.executable, "-c", code, "--source", str(video), *model, "--jsonl", str(tmp_path / "o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert len(events(tmp_path / "o")) == 2  # earlier results are on disk


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no source: give --source FILE (or `demo`), or --camera 0"),
        (["--source", "x.mp4", "--max-frames", "0"], "--max-frames 0: expected 1 or more"),
        (["--source", "x.mp4", "--max-frames", "few"], "--max-frames: expected a whole number, not 'few'"),
        (["--source", "x.mp4", "--window", "wide"], "--window: expected a number, not 'wide'"),
        (["--source", "x.mp4", "--duration", "0"], "--duration 0: expected seconds"),
        (["--source", "a.mp4", "--source", "a.mp4"], "given twice"),
        (["--source", "a.mp4", "--source", "./a.mp4"], "given twice"),
        (["--camera", "0", "--source", "0"], "given twice"),
        (["--detector-size", "big"], "--detector-size big: expected `auto` or a whole number of pixels"),
        (["--detector-size", "-5"], "--detector-size -5: expected `auto` or a whole number of pixels"),
        (["--sauce", "x.mp4"], "unrecognized arguments: --sauce x.mp4: did you mean --source?"),
        (["a b.mp4"], "unrecognized arguments: 'a b.mp4': did you mean --source 'a b.mp4'?"),
        (["--input", "x.mp4"], "did you mean --source?"),
        (["--source", "x.mp4", "--hysterisis=0.1"], "did you mean --hysteresis=0.1?"),
        (["--source", "x.mp4", "--emotion"], "unrecognized arguments: --emotion; see"),
        (
            ["--source", "-x.mp4"],
            "--source: expected one argument; write --source=VALUE for a value",
        ),
        (["--publish", "0.0.0.0:80"], "unrecognized arguments: --publish"),
        (["--config", "nowhere.toml"], "--config nowhere.toml: cannot be read"),
    ],
)
def test_mistakes_in_options(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str):
    assert message in mistake(main(arguments), capsys.readouterr().err)


def test_a_misspelt_option_that_is_required_is_named():
    options = OneLineParser(prog="program")
    options.add_argument("--data", required=True)
    options.add_argument("--out")
    expected = r"required: --data; did you mean --data by --dta\?; see program --help"
    with pytest.raises(EmotionError, match=expected):
        options.parse_args(["--ou", "a", "--dta", "b"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--source", "nobody.mp4"], "nobody.mp4"),
        (["--source", "{video}", "--bundle", "nowhere"], "bundle 'nowhere' not found"),
        (["--source", "{video}", "--head", "mood"], "choose one of probe, opposite"),
        (["--source", "{video}", "--backend", "tensorrt"], "backend tensorrt: tensorrt is not installed"),
        (["--source", "{video}", "--precision", "int8"], "has no frame_encoder in int8, only in fp32"),
        (
            ["--source", "{video}", "--precision", "fp64"],
            "--precision fp64: expected one of fp32, fp16, int8",
        ),
        (["--source", "{video}", "--backend", "gpu"], "expected one of auto, cpu, cuda"),
        (["--source", "{video}", "--detector", "nothing.onnx"], "nothing.onnx"),
        (
            ["--source", "{video}", "--detector-size", "9999"],
            "detector size 9999: expected `auto` or a whole",
        ),
        (["--source", "{video}", "--detector-size", "960"], "fixed at 64 x 64 pixels, 960 was asked for"),
        (["--source", "{video}", "--detector-score", "1.5"], "detector score 1.5: expected a number between"),
        (["--source", "{video}", "--detect-every", "-1"], "detect_every -1.0: expected `auto` or seconds, 0"),
        (["--source", "{video}", "--window", "-1"], "window -1.0: expected seconds"),
        (["--source", "{video}", "--window", "1", "--every", "1"], "at most 0.25 s"),
        (["--source", "{video}", "--smoothing", "-1"], "smoothing -1.0"),
        (["--source", "{video}", "--jsonl", "{video}/out.jsonl"], "cannot be created"),
        (["--source", "{video}", "--record", "{video}/out.mp4"], "cannot be created"),
    ],
)
def test_mistakes_found_when_parts_are_opened(
    model: list[str], video: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
):
    status = main([*model, *(flag.format(video=video) for flag in flags)])
    assert message in mistake(status, capsys.readouterr().err)


def test_missing_source_leaves_earlier_results_alone(model: list[str], tmp_path: Path):
    jsonl = tmp_path / "out.jsonl"
    jsonl.write_text("earlier\n")
    assert main([*model, "--source", str(tmp_path / "nobody.mp4"), "--jsonl", str(jsonl)]) == 2
    assert jsonl.read_text() == "earlier\n"


def test_mistake_gives_exit_status_2():
    done = run("--max-frames", "0", "--source", "demo")
    assert "--max-frames 0" in mistake(done.returncode, done.stderr)


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
