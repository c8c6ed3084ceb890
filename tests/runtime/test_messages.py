"""Messages of the command line: with times, and as lines of JSON."""

import json
import logging
import re
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest

from emotion_runtime import console, messages
from emotion_runtime.cli import main
from emotion_runtime.errors import EmotionError
from emotion_runtime.sources.statuses import StatusRecord

LOG = logging.getLogger("emotion_runtime.somewhere")


def command() -> None:
    LOG.warning("first\nof two lines")
    LOG.info("about a source", extra={"source": "door"})
    sys.stderr.write("emotion-runtime: 5 frames\nperson 1: 0.2 s\n\nhalf")
    sys.stderr.write(" a line")


def printed_by(action: object, capsys: pytest.CaptureFixture[str], *, as_json: bool) -> list[str]:
    messages.print_messages("emotion-runtime", times=True)

    def start() -> None:
        if as_json:
            messages.write_json_messages("emotion-runtime")
        action()

    console.run("emotion-runtime", start)
    return capsys.readouterr().err.splitlines()


def test_log_messages_have_times(capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third, *rest = printed_by(command, capsys, as_json=False)
    match = re.fullmatch(r"emotion-runtime: (\S+Z) WARNING: first", first)
    assert match
    age = datetime.now(timezone.utc) - datetime.fromisoformat(match[1].replace("Z", "+00:00"))
    assert -2 < age.total_seconds() < 60
    assert second == "of two lines"
    assert re.fullmatch(r"emotion-runtime: \S+Z about a source", third)
    assert rest == ["emotion-runtime: 5 frames", "person 1: 0.2 s", "", "half a line"]


def test_every_message_is_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in printed_by(command, capsys, as_json=True)]
    assert [(line["level"], line["source"], line["message"]) for line in lines] == [
        ("warning", None, "first\nof two lines"),
        ("info", "door", "about a source"),
        ("info", None, "5 frames"),
        ("info", None, "person 1: 0.2 s"),
        ("info", None, "half a line"),
    ]
    assert all(list(line) == ["time", "level", "source", "message"] for line in lines)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)


def test_errors_are_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise EmotionError("one mistake\nanother mistake")

    lines = [json.loads(line) for line in printed_by(fail, capsys, as_json=True)]
    assert [(line["level"], line["message"]) for line in lines] == [
        ("error", "one mistake"),
        ("error", "another mistake"),
    ]


@pytest.mark.parametrize("where", ["flag", "file", "mistake in file"])
def test_format_can_be_chosen(capsys: pytest.CaptureFixture[str], tmp_path: Path, where: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text('log_format = "json"\n' if where == "file" else "smothing = 1\n" * (where != "flag"))
    flags = [] if where == "file" else ["--log-format", "json"]
    assert main(["--config", str(path), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    expected = "unknown key smothing" if where == "mistake in file" else "no source: give --source"
    assert expected in json.loads(line)["message"]


def test_wrong_format_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--source", "demo", "--log-format", "xml"]) == 2
    assert "--log-format xml: expected one of text, json" in capsys.readouterr().err


def test_change_of_status_names_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    def change() -> None:
        StatusRecord("door").change("lost", "no answer for 5 s")

    (line,) = printed_by(change, capsys, as_json=True)
    assert json.loads(line)["source"] == "door"


@pytest.mark.slow
def test_whole_run_writes_only_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--source", "demo", "--max-frames", "5", "--log-format", "json"]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert any("backend auto" in line["message"] for line in lines)
    assert any(line["message"].startswith("5 frames in") for line in lines)


def test_a_name_that_is_too_long_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run("emotion-runtime", lambda: Path("x" * 300).is_file()) == 2
    expected = f"emotion-runtime: error: {'x' * 60}...: the name is too long; give the path of a file\n"
    assert capsys.readouterr().err == expected
