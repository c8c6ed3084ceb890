"""Configuration: options, the file, and their combination."""

import re
from pathlib import Path

import pytest

from emotion_runtime import config, options, run_outputs
from emotion_runtime.cli import main
from emotion_runtime.config import make_config
from emotion_runtime.credentials import with_secrets
from emotion_runtime.privacy.zones import parse_zone
from emotion_runtime.sinks import window
from emotion_runtime.sinks.base import Outputs
from emotion_runtime.sources import Address, parse_source, parse_sources


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments, "--print-config"]) == 0
    return capsys.readouterr().out


def test_printed_configuration_can_be_read_back(capsys: pytest.CaptureFixture[str], tmp_path: Path):
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


def test_printed_configuration_is_a_complete_template(capsys: pytest.CaptureFixture[str]):
    lines = printed(capsys, "--source", "demo").splitlines()
    assert len(lines) == 2 * len(config.RunConfig.__struct_fields__)
    for key, comment, line in zip(config.RunConfig.__struct_fields__, lines[::2], lines[1::2], strict=True):
        assert re.fullmatch(r"# \S.*", comment)
        assert line.startswith(f"{key} = ") or line == f"# {key} ="
    assert "# precision =" in lines


@pytest.mark.parametrize("option", ["jsonl", "record", "csv", "head", "mqtt", "bundle"])
def test_an_empty_value_is_a_mistake(capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str):
    path = tmp_path / "run.toml"
    path.write_text(f'{option} = ""\n')
    for arguments, origin in (
        (["--config", str(path)], f"--config {path}: {option}"),
        ([f"--{option}="], f"--{option}"),
    ):
        assert main(["--source", "demo", *arguments]) == 2
        message = f"emotion-runtime: error: {origin} is empty: give a value, or omit it for the default\n"
        assert capsys.readouterr().err == message


def test_an_empty_name_of_the_file_is_a_mistake(capsys: pytest.CaptureFixture[str]):
    assert main(["--config", "", "--source", "demo"]) == 2
    assert "--config is empty: give the path of a TOML file" in capsys.readouterr().err


def test_every_flag_can_stand_in_the_file():
    actions = options.parser()._actions
    flags = {action.dest for action in actions} - {
        "help",
        "version",
        "config",
        "print_config",
        "doctor",
        "json",
    }
    assert flags == set(config.RunConfig.__struct_fields__)


def test_options_of_the_run_line_have_no_addresses_and_paths():
    changed = make_config({}, {"source": ["rtsp://me:secret@cam/1"], "record": "a.mp4", "every": 0.1}).changed
    assert changed == {"every": 0.1}
    assert make_config({}, {}).changed == {}


@pytest.mark.parametrize(
    ("source", "options", "expected"),
    [
        ("people.mp4", {}, {}),
        ("people.mp4", {"detect_every": 0.2}, {"detect_every": 0.2}),
        ("people.mp4", {"realtime": True}, {"detect_every": "auto", "realtime": True}),
        ("rtsp://cam/1", {}, {"detect_every": "auto"}),
        ("rtsp://cam/1", {"detect_every": 0}, {"detect_every": 0}),
    ],
)
def test_the_run_line_says_whether_detections_are_timed(
    source: str, options: dict[str, object], expected: dict[str, object]
):
    made = make_config({}, {"source": [source], **options})
    assert run_outputs.run_options(made, parse_sources(made.sources)) == expected


def test_a_tilde_that_no_shell_has_expanded_is_the_home_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run.toml").write_text('record = "~/copies/"\nmqtt_ca = "~/ca.pem"\nnotice_who = "~/me"\n')
    lines = printed(capsys, "--config=~/run.toml", "--jsonl=~/results/", "--bundle=~/nano").splitlines()
    paths = {"record": "copies/", "mqtt_ca": "ca.pem", "jsonl": "results/", "bundle": "nano"}
    assert {f'{name} = "{tmp_path}/{path}"' for name, path in paths.items()} <= {*lines}
    assert 'notice_who = "~/me"' in lines
    (tmp_path / "clip.mp4").touch()
    assert parse_source("door=~/clip.mp4") == Address("door", "file", f"{tmp_path}/clip.mp4", named=True)
    assert parse_source("~/clip.mp4") == parse_source(f"{tmp_path}/clip.mp4")
    assert parse_zone("~/clip.mp4=0,0,1,1").covers(f"{tmp_path}/clip.mp4")
    (tmp_path / "password").write_text("secret\n")
    assert with_secrets("rtsp://me:${file:~/password}@cam") == "rtsp://me:secret@cam"


def test_options_take_precedence_over_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = tmp_path / "run.toml"
    path.write_text('camera = 0\nsource = "door.mp4"\nsmoothing = 0.5\nhysteresis = 0.2\n')
    alone = printed(capsys, "--config", str(path))
    assert {"camera = [0]", 'source = ["door.mp4"]'} <= set(alone.splitlines())
    both = printed(capsys, "--config", str(path), "--source", "demo", "--smoothing", "0")
    expected = {"camera = []", 'source = ["demo"]', "smoothing = 0.0", "hysteresis = 0.2"}
    assert expected <= set(both.splitlines())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("emotion = true", "unknown key emotion; expected some of camera, source, bundle,"),
        ("realtime = 'yes'", 'realtime = "yes": expected true or false'),
        ("camera = 'front'", 'camera = "front": expected camera numbers'),
        ("precision = 'int4'", 'precision = "int4": expected one of fp32, fp16, int8'),
        ("window = '2'", 'window = "2": expected a number'),
        ("max_frames = 2.5", "max_frames = 2.5: expected a whole number"),
        ("source = [1]", "source = [1]: expected texts in quotes"),
        ("source = 3", "source = 3: expected texts in quotes"),
        ("zone = 3", "zone = 3: expected texts in quotes"),
        ("window = 2026-11-27", 'window = "2026-11-27": expected a number'),
        ("source = 'demo'\nduration = -1", "--duration -1: expected seconds, more than 0"),
        ("source = 'demo'\nmqtt_every = 1", "--mqtt-every needs a broker"),
        ("source = 'demo'\nmqtt_discovery = false", "--no-mqtt-discovery needs a broker"),
        ("source = 'demo'\nreport = 'page'", "--report page: expected a page that ends with .html"),
        ("detector_size = '960'", 'detector_size = "960": expected `auto` or a whole number of pixels'),
        ("detector_size = 960.5", "detector_size = 960.5: expected `auto` or a whole number of pixels"),
        ("detect_every = 'often'", 'detect_every = "often": expected `auto` or a number'),
        ("bundle = 1", "bundle = 1: expected text in quotes"),
        ("camera = ", "not valid TOML"),
        ("\xff", "not valid TOML"),
    ],
)
def test_mistakes_in_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, expected: str):
    path = tmp_path / "run.toml"
    path.write_bytes(text.encode("latin-1"))
    assert main(["--config", str(path)]) == 2
    message = capsys.readouterr().err
    assert f"--config {path}: " in message
    assert expected in message
    assert len(message.splitlines()) == 1


def test_an_option_of_the_command_line_is_not_said_to_be_in_the_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    path = tmp_path / "run.toml"
    path.write_text("source = 'demo'\nduration = 3")
    assert main(["--config", str(path), "--duration", "-1"]) == 2
    assert "error: --duration -1: expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], 'detector_size = "auto"'),
        (["--detector-size", "auto"], 'detector_size = "auto"'),
        (["--detector-size", "960"], "detector_size = 960"),
        (["--detector-score", "0.5"], "detector_score = 0.5"),
        (["--detect-every", "0.2"], "detect_every = 0.2"),
        (["--detect-every", "auto"], 'detect_every = "auto"'),
    ],
)
def test_options_of_the_detector(capsys: pytest.CaptureFixture[str], arguments: list[str], line: str):
    assert line in printed(capsys, *arguments, "--source", "demo").splitlines()


@pytest.mark.parametrize(
    ("arguments", "display", "shown"),
    [
        (["--camera", "0"], True, True),
        (["--camera", "0"], False, False),
        (["--source", "v4l2:///dev/video0"], True, True),
        (["--source", "people.mp4"], True, False),
        (["--source", "people.mp4", "--show"], False, True),  # and then reports that there is no display
        (["--camera", "0", "--no-show"], True, False),
        (["--camera", "0", "--aggregate", "3"], True, False),
        (["--camera", "0", "--aggregate", "3", "--blur", "faces"], True, True),
    ],
)
def test_window_is_shown_for_cameras_on_a_display_by_default(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], display: bool, shown: bool
):
    monkeypatch.setattr(window.sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":0") if display else monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(window, "_x11_answers", lambda _: True)
    flags = vars(options.parser().parse_args(arguments))
    config = make_config({}, flags)
    live = any(address.live for address in parse_sources(config.sources))
    assert run_outputs._wants_window(config, live=live) == shown


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        (["--source", "demo", "--follow", "--blur", "faces"], ["--follow", "--blur"]),
        (
            ["--camera", "0", "--follow", "--realtime", "--blur", "faces"],
            ["--follow", "--realtime", "--blur"],
        ),
        (
            ["--source", "a.mp4", "--lost-after", "9", "--frozen-after", "0"],
            ["--lost-after", "--frozen-after"],
        ),
        (["--source", "demo", "--wall-clock", "--append"], ["--wall-clock", "--append"]),
        (["--source", ".", "--follow", "--report", "a.html", "--overwrite"], ["--follow"]),
        (["--source", ".", "--follow", "--jsonl", "out/", "--wall-clock", "--append"], []),
        (["--source", "a.mp4", "--follow", "--blur", "faces", "--record", "b.mp4", "--realtime"], []),
        (["--source", "demo", "--blur", "faces", "--serve", "127.0.0.1:0", "--zone", "0,0,1,0.1"], []),
        (["--source", "demo", "--serve", "127.0.0.1:0", "--serve-cameras", "--lost-after", "9"], []),
    ],
)
def test_an_option_without_effect_is_named(
    caplog: pytest.LogCaptureFixture, arguments: list[str], flags: list[str]
):
    config = make_config({}, vars(options.parser().parse_args(arguments)))
    outputs = Outputs(jsonl=config.jsonl, record=config.record, report=config.report)
    run_outputs.warn_without_effect(config, parse_sources(config.sources), outputs)
    assert [record.getMessage().split()[0] for record in caplog.records] == flags
