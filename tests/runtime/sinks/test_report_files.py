"""Where a page about a session comes from: a run, or its lines afterwards."""

import csv
import json
import re
from pathlib import Path

import msgspec
import pytest
from parsed_pages import BOX, RUN, START, Parsed
from sample_events import event, frame, person

from emotion_runtime import report_command as command
from emotion_runtime.cli import main
from emotion_runtime.errors import EmotionError
from emotion_runtime.reader import read_events
from emotion_runtime.sinks.jsonl import JsonlSink
from emotion_runtime.sinks.report.from_lines import read_sessions
from emotion_runtime.sinks.report.sink import ReportSink
from emotion_runtime.types import StatusLine


def test_the_page_appears_when_the_run_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    sink = ReportSink(str(path), run=RUN)
    assert "written when the run ends" in path.read_text()
    with pytest.raises(EmotionError, match="is being written by another run"):
        ReportSink(str(path))
    sink.write(frame(), event(person(1, BOX)))
    sink.write_status(StatusLine(source="video.mp4", time=START, status="live"))
    sink.close()
    sink.close()
    assert "Emotion recognition ran" in path.read_text()
    assert [each.name for each in path.parent.iterdir()] == ["report.html"]


def test_pages_that_are_kept_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    for _ in range(3):
        ReportSink(str(path), keep=True).close()
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "report-0002.html",
        "report-0003.html",
        "report.html",
    ]


def test_a_page_that_cannot_be_written_is_known_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(EmotionError, match="cannot be written"):
        ReportSink(str(tmp_path))


def write_lines(path: Path, *, runs: int = 1, append: bool = False) -> None:
    for index in range(runs):
        sink = JsonlSink(str(path), run=RUN, append=append or index > 0)
        for step in range(4):
            top = "happiness" if index == 0 else "fear"
            sink.write(frame(step), event(person(1, BOX, top=top), frame=step, t=step / 2))
        sink.close()


def test_command_makes_the_page_that_the_run_made(tmp_path: Path) -> None:
    lines, out = tmp_path / "events.jsonl", tmp_path / "report.html"
    write_lines(lines)
    sink = ReportSink(str(tmp_path / "live.html"), run=RUN)
    for step in range(4):
        sink.write(frame(step), event(person(1, BOX), frame=step, t=step / 2))
    sink.close()
    assert command.main([str(lines), str(out)]) == 0
    assert out.read_text() == (tmp_path / "live.html").read_text()


def test_each_run_is_a_session_and_rotated_parts_are_one(tmp_path: Path) -> None:
    lines, out = tmp_path / "events.jsonl", tmp_path / "report.html"
    write_lines(lines, runs=2)
    assert command.main([str(lines), str(out)]) == 0
    assert "Session 2 of 2" in out.read_text()
    assert "fear 100 %" in Parsed(out.read_text()).text.replace("  ", " ")
    assert command.main([str(lines), str(out), "--session", "1"]) == 0
    assert "happiness 100 %" in Parsed(out.read_text()).text.replace("  ", " ")
    text = lines.read_text().splitlines()
    (tmp_path / "a.jsonl").write_text("\n".join(text[:3]) + "\n")
    (tmp_path / "b.jsonl").write_text("\n".join([text[0], *text[3:5]]) + "\n")
    (whole,) = read_sessions([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert whole.sources["video.mp4"].frames == 4


def test_lines_on_change_last_until_the_next_one(tmp_path: Path) -> None:
    lines = tmp_path / "events.jsonl"
    sink = JsonlSink(str(lines), run=msgspec.structs.replace(RUN, options={"on_change": True}))
    for index, t in enumerate((0.0, 0.1, 0.2, 60.2)):
        sink.write(frame(), event(person(1, BOX), frame=index, t=t))
    sink.close()
    (session,) = read_sessions([lines])
    session.finish()
    assert session.summary("video.mp4").persons[0].seconds == pytest.approx(120.2)


def test_schema_1_is_read(tmp_path: Path) -> None:
    lines, out = tmp_path / "old.jsonl", tmp_path / "report.html"
    old = {"schema": 1, "source": "old.mp4", "latency_ms": 0.0, "dropped": 0}
    one_person = {"id": 1, "box": [1, 2, 3, 4], "score": 0.9, "state": "steady", "raw": {"sad": 1.0}}
    with lines.open("w") as file:
        for index in range(4):
            top = "sad" if index < 2 else None
            each = one_person | {"top": top, "emotions": {"sad": 1.0}}
            file.write(json.dumps(old | {"frame": index, "t": index / 2, "persons": [each]}) + "\n")
    assert command.main([str(lines), str(out)]) == 0
    text = re.sub(r"\s+", " ", Parsed(out.read_text()).text)
    assert "sad 50 %" in text
    assert "uncertain 1.0 s" in text
    assert "do not say which model" in text


COUNTS = """{"schema": 2, "type": "run", "version": "0.1.0", "bundle": "nano", "bundle_sha256": "9b0c",\
 "head": "probe", "options": {"aggregate": 2}}
{"schema": 2, "type": "aggregate", "source": "hall", "t": 1.0, "people": 2, "counts": {"sad": 2}}
"""
STATUS = """{"schema": 2, "type": "status", "source": "hall", "time": "2026-11-27T01:30:00Z",\
 "status": "live"}
"""


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ("", [], "events.jsonl has no lines of frames"),
        (COUNTS, [], "give a file of --jsonl that was written without --aggregate"),
        (COUNTS + STATUS, [], "give a file of --jsonl that was written without --aggregate"),
        ('{"schema": 3, "type": "frame"}\n', [], "schema 3; expected 1 to 2: update this program"),
        ("hello\n", [], "line 1: not JSON"),
        ("[" * 100_000 + "\n", [], "line 1: nested too deeply"),
        (None, [], "cannot be read"),
        (None, ["--session", "0"], "--session 0: expected 1 or more"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    arguments: list[str],
    message: str,
) -> None:
    lines, out = tmp_path / "events.jsonl", tmp_path / "report.html"
    if content is not None:
        lines.write_text(content)
    assert command.main([str(lines), str(out), *arguments]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert message in printed
    assert not out.exists()


def test_command_does_not_replace_its_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = tmp_path / "events.jsonl"
    write_lines(lines)
    before = lines.read_bytes()
    assert command.main([str(lines), str(lines)]) == 2
    assert command.main([str(lines), str(tmp_path / "other.jsonl")]) == 2
    assert "would replace the events" in capsys.readouterr().err
    assert lines.read_bytes() == before


def test_a_run_writes_the_same_into_lines_tables_and_page(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, table, out = (tmp_path / name for name in ("events.jsonl", "people.csv", "report.html"))
    outputs = ["--jsonl", str(lines), "--csv", str(table), "--report", str(out)]
    model = ["--bundle", str(tiny_bundle), "--backend", "cpu"]
    assert main(["--source", "demo", *model, "--max-frames", "16", *outputs]) == 0
    printed = capsys.readouterr().err
    assert all(str(path) in printed for path in (lines, table, tmp_path / "people-summary.csv", out))
    with table.open(newline="") as file:
        found = list(csv.DictReader(line for line in file if not line.startswith("#")))
    expected = [row for each in read_events(lines) for row in each.to_rows()]
    assert len(found) == len(expected) > 0
    for texts, row in zip(found, expected, strict=True):
        assert texts == {key: "" if row.get(key) is None else str(row[key]) for key in texts}
    assert command.main([str(lines), str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text() == out.read_text()
    assert "Emotion recognition ran" in out.read_text()
