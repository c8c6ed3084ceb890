"""Mistakes that show only when something is opened: the configuration file is named if it has them."""

from pathlib import Path

import pytest

from emotion_runtime.cli import main


def written(folder: Path, text: str) -> str:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('source = "xyz://a"', "source: a source begins with xyz://"),
        ('source = ["demo", "demo"]', "source: a source is given twice"),
        ("camera = -1", "camera -1: expected"),
        ('bundle = "nowhere"', "bundle 'nowhere' not found"),
        ('detector = "a.pt"', "detector 'a.pt': expected"),
        ("detector_size = 5", "detector size 5: expected"),
        ('backend = "a"', "backend 'a': expected"),
        ('precision = "fp16"', "precision fp16: bundle nano has frame_encoder only in"),
        ('head = "a"', "head 'a': bundle nano has none"),
        ("window = -1.0", "window -1.0: expected"),
        ("detect_every = -1.0", "detect_every -1.0: expected"),
        ('jsonl = "/dev/null/a"', "jsonl: folder /dev/null cannot be created"),
        ('csv = "/dev/null/a"', "csv: folder /dev/null"),
        ('report = "/dev/null/a.html"', "report: folder /dev/null"),
        ('record = "a.foo"', "record: video file a.foo: unsupported suffix"),
        ('embeddings = "/dev/null/a.npz"', "embeddings: "),
        ('zone = "a=0,0,1,1"', "--zone a=...: there is no source"),
        ('mqtt = "mqtt://a:${NOT_SET_ANYWHERE}@b"', "mqtt: the environment variable NOT_SET_ANYWHERE"),
    ],
)
def test_what_is_wrong_only_when_it_is_opened_is_told_with_file_and_key(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, expected: str
) -> None:
    source = "" if text.startswith(("source", "camera")) else 'source = "demo"\n'
    path = written(tmp_path, f"{source}max_frames = 1\n{text}")
    assert main(["--config", path]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"emotion-runtime: error: --config {path}: {expected}")


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('source = "demo"\nbackend = "b"', ["--backend", "a"]),
        ('source = "demo"\ndetector = "face"', ["--detector-size", "5"]),
        ('source = "demo"\nbundle = "nano"', ["--precision", "fp16"]),
        ('source = "demo"', ["--camera", "-1"]),
        ("camera = 0", ["--source", "nowhere.mp4"]),
    ],
)
def test_the_file_is_not_blamed_for_the_command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, arguments: list[str]
) -> None:
    assert main(["--config", written(tmp_path, text), *arguments]) == 2
    assert "--config" not in capsys.readouterr().err
