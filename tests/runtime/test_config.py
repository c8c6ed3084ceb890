"""Configuration: flags, file, and what they make together."""

from pathlib import Path
from typing import get_args

import pytest

from emotion_runtime import bundle, cli, config
from emotion_runtime.cli import main
from emotion_runtime.config import make_config


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments, "--print-config"]) == 0
    return capsys.readouterr().out


def test_a_printed_configuration_can_be_fed_back(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    odd = 'a "quoted" \\ name, ü, 雪, 😀.mp4'
    text = printed(
        capsys,
        "--source",
        odd,
        "--camera",
        "1",
        "--every",
        "0.1",
        "--no-show",
        "--max-frames",
        "5",
        "--realtime",
    )
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    assert printed(capsys, "--config", str(path)) == text
    for line in ("camera = [1]", "every = 0.1", "show = false", "max_frames = 5", "realtime = true"):
        assert line in text.splitlines()


def test_precisions_are_those_of_bundles():
    assert get_args(config.Precision) == get_args(bundle.Precision)


def test_flags_win_over_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = tmp_path / "run.toml"
    path.write_text('camera = 0\nsource = "door.mp4"\nsmoothing = 0.5\nhysteresis = 0.2\n')
    alone = printed(capsys, "--config", str(path))
    assert 'camera = [0]\nsource = ["door.mp4"]\n' in alone
    both = printed(capsys, "--config", str(path), "--source", "demo", "--smoothing", "0")
    assert 'camera = []\nsource = ["demo"]\n' in both
    assert "smoothing = 0.0\nhysteresis = 0.2\n" in both


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("emotion = true", "unknown key emotion; known are camera, source, bundle,"),
        ("realtime = 'yes'", "Expected `bool`, got `str` - at `$.realtime`"),
        ("camera = 'front'", "`$.camera[0]`"),
        ("camera = ", "no valid TOML"),
        ("\xff", "no valid TOML"),
    ],
)
def test_mistakes_in_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, said: str):
    path = tmp_path / "run.toml"
    path.write_bytes(text.encode("latin-1"))
    assert main(["--config", str(path)]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "display", "shown"),
    [
        (["--camera", "0"], True, True),
        (["--camera", "0"], False, False),
        (["--source", "v4l2:///dev/video0"], True, True),
        (["--source", "people.mp4"], True, False),
        (["--source", "people.mp4", "--show"], False, True),  # which then says that there is no display
        (["--camera", "0", "--no-show"], True, False),
    ],
)
def test_a_window_is_for_cameras_on_a_display_unless_told(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], display: bool, shown: bool
):
    monkeypatch.setattr(cli.sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":0") if display else monkeypatch.delenv("DISPLAY", raising=False)
    flags = vars(cli._parser().parse_args(arguments))
    assert cli._wants_window(make_config({}, flags)) == shown
