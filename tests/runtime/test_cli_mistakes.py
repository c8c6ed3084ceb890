"""A user's mistakes on the command line: exit status 2, and one line that says what to do."""

import subprocess
import sys
from pathlib import Path

import pytest
from command_runs import FRAMES, events, mistake, run

from emotion_runtime.cli import main
from emotion_runtime.console import OneLineParser
from emotion_runtime.errors import EmotionError


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


def test_a_current_folder_that_was_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for source in ("demo", "x.mp4"):
        line = mistake(main(["--source", source]), capsys.readouterr().err)
        assert "the current folder does not exist any more; change to another one with cd" in line


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
        (["--source", "x.mp4", "--dur=1"], "--dur=1: did you mean --duration=1?"),
        (["--source", "demo", "--csv", "out/"], "--csv out/: expected the name of a file, not of a folder"),
        (["--source", "demo", "--report", "a.html/"], "--report a.html/: expected the name of a file"),
        (["--source", "demo", "--embeddings", "a.npz/"], "--embeddings a.npz/: expected the name of a file"),
        (["--source", "demo", "--record", "out/.mp4"], "--record out/.mp4: there is no name before the end"),
        (
            ["--source", "demo", "--serve", "127.0.0.1:0", "--serve-name", "https://cam.example.org"],
            "--serve-name https://cam.example.org: expected NAME or NAME:PORT, such as camera.example.org",
        ),
        (["--source", "x.mp4", "--emotion"], "unrecognized arguments: --emotion; see"),
        (
            ["--source", "-x.mp4"],
            "--source: expected one argument; write --source=VALUE for a value",
        ),
        (["--publish", "0.0.0.0:80"], "unrecognized arguments: --publish"),
        (["--config", "nowhere.toml"], "--config nowhere.toml: cannot be read"),
        (["--source", "demo", "--csv", "-", "--jsonl", "-"], "--jsonl - and --csv - would be mixed"),
        (
            ["--source", "demo", "--csv", "a.csv", "--aggregate", "3"],
            "--csv tells people apart, which --aggregate prevents",
        ),
        (
            ["--source", "demo", "--report", "a.html", "--aggregate", "3"],
            "--report tells people apart, which --aggregate",
        ),
        (
            ["--source", "demo", "--csv", "-", "--rotate", "daily"],
            "needs a file to rotate: give --jsonl FILE or --csv FILE",
        ),
        (["--source", "demo", "--rotate", "1MB"], "--rotate 1MB needs a file to rotate: give --jsonl FILE"),
        (["--source", "demo", "--rotate", "1MB", "--jsonl", "-"], "--rotate 1MB needs a file to rotate"),
        (
            ["--source", "demo", "--rotate", "hourly", "--jsonl", "a"],
            "--rotate hourly: expected `daily`, or a size",
        ),
        (
            ["--source", "demo", "--rotate", "daily", "--jsonl", "a", "--rotate-keep", "0"],
            "--rotate-keep 0: expected 1 or more",
        ),
        (["--source", "demo", "--rotate-keep", "3", "--jsonl", "a"], "--rotate-keep needs --rotate"),
        (["--source", "demo", "--on-change"], "--on-change is about JSON lines: give --jsonl PATH, too"),
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
        (["--source", "{video}", "--precision", "int8"], "has frame_encoder only in fp32"),
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
