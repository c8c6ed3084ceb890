"""Rotation of JSON lines by size and by day."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import msgspec
import pytest
from sample_events import RUN, event, frame, person

from emotion_runtime.cli import main
from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks import open_sinks
from emotion_runtime.sinks.base import Outputs
from emotion_runtime.sinks.jsonl import JsonlSink
from emotion_runtime.sinks.rotation import RotatingOutput, Rotation, parse_rotation

BOX = (10.0, 10.0, 50.0, 60.0)
BOTH = person(1, BOX)
RUN_LINE = msgspec.json.encode(RUN) + b"\n"


def lines_of(path: Path) -> list[dict]:
    """Return the lines; of a process that was killed the last one may be incomplete, until the next start."""
    *lines, _ = path.read_text().split("\n")
    return [json.loads(line) for line in lines]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rotating(path: Path, rotation: Rotation, *, append: bool = True) -> JsonlSink:
    return JsonlSink(str(path), append=append, run=RUN, rotation=rotation)


def write_much(path: Path, rotation: Rotation) -> list[Path]:
    """Write enough for several parts by size, and return the files that the sink names."""
    sink = rotating(path, rotation)
    for index in range(100):
        sink.write(frame(index), event(BOTH, frame=index))
    sink.close()
    return sink.files


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("daily", None),
        ("100MB", 100_000_000),
        ("1.5 gb", 1_500_000_000),
        ("20k", 20_000),
        ("12345", 12345),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    assert parse_rotation(text, 3) == Rotation(size, 3)


@pytest.mark.parametrize("text", ["weekly", "", "10MiB", "-5MB", "9999", "1e9", "0"])
def test_wrong_sizes(text: str) -> None:
    with pytest.raises(EmotionError, match="expected"):
        parse_rotation(text)


def test_only_files_can_be_rotated(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EmotionError, match="not a regular file"):
        rotating(tmp_path / "pipe", Rotation())
    with pytest.raises(EmotionError, match="is a folder"):
        list(open_sinks(Outputs(jsonl=f"{tmp_path}/", rotation=Rotation())))


def test_by_size_no_line_is_lost_and_each_file_says_what_made_it(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = rotating(path, Rotation(10_000))
    for index in range(100):
        sink.write(frame(index), event(BOTH, frame=index))
    sink.close()
    parts = [tmp_path / name for name in names(tmp_path)]
    assert [part.name for part in parts[:2]] == ["events-0001.jsonl", "events-0002.jsonl"]
    assert parts[-1] == path
    assert sink.files == parts
    assert all(part.stat().st_size <= 10_000 for part in parts)
    assert all(part.stat().st_size > 8_000 for part in parts[:-1])
    assert all(lines_of(part)[0]["type"] == "run" for part in parts)
    found = [line["frame"] for part in parts for line in lines_of(part) if line["type"] == "frame"]
    assert found == list(range(100))


def test_line_longer_than_the_size_has_a_file_of_its_own(tmp_path: Path) -> None:
    output = RotatingOutput(str(tmp_path / "a.jsonl"), "a", Rotation(10_000))
    for _ in range(3):
        assert output.write(b"x" * 20_000 + b"\n")
    output.close()
    assert names(tmp_path) == ["a-0001.jsonl", "a-0002.jsonl", "a.jsonl"]


def test_next_run_goes_on_with_the_file_and_the_numbers(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for start in (0, 30):
        sink = rotating(path, Rotation(10_000))
        for index in range(start, start + 30):
            sink.write(frame(index), event(BOTH, frame=index))
        sink.close()
    parts = sorted(tmp_path.iterdir(), key=lambda part: (part == path, part.name))
    found = [line["frame"] for part in parts for line in lines_of(part) if line["type"] == "frame"]
    assert found == list(range(60))


def test_by_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    today = date(2026, 11, 27)
    monkeypatch.setattr("emotion_runtime.sinks.rotation._today", lambda: today)
    output = RotatingOutput(str(tmp_path / "a.jsonl"), "a", Rotation())
    output.write(b"1\n")
    output.write(b"2\n")
    today = date(2026, 11, 28)
    output.first_line = b"run\n"
    output.write(b"3\n")
    output.close()
    assert names(tmp_path) == ["a-2026-11-27.jsonl", "a.jsonl"]
    assert (tmp_path / "a-2026-11-27.jsonl").read_text() == "1\n2\n"
    assert (tmp_path / "a.jsonl").read_text() == "run\n3\n"


def test_file_of_an_earlier_day_is_put_away_by_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"schema":2}\n')
    (tmp_path / "a-2001-09-09.jsonl").write_text("there already\n")
    os.utime(path, (1e9, 1e9))  # 2001-09-09
    sink = rotating(path, Rotation())
    sink.write(frame(), event())
    sink.close()
    assert names(tmp_path) == ["a-2001-09-09-2.jsonl", "a-2001-09-09.jsonl", "a.jsonl"]
    assert (tmp_path / "a-2001-09-09.jsonl").read_text() == "there already\n"
    assert (tmp_path / "a-2001-09-09-2.jsonl").read_text() == '{"schema":2}\n'
    assert [line["type"] for line in lines_of(path)] == ["run", "frame"]


def test_only_the_newest_parts_are_kept_and_other_files_stay(tmp_path: Path) -> None:
    others = ["events-notes.jsonl", "events-12.jsonl", "events-0001.txt", "other-0001.jsonl"]
    for name in others:
        (tmp_path / name).write_text("mine")
    path = tmp_path / "events.jsonl"
    files = write_much(path, Rotation(10_000, keep=2))
    *parts, newest = files
    assert newest == path
    assert len(parts) == 2
    assert set(names(tmp_path)) == {*others, path.name, *(part.name for part in parts)}
    kept = [line["frame"] for part in files for line in lines_of(part) if line["type"] == "frame"]
    assert kept == list(range(kept[0], 100))


def test_files_that_are_called_like_a_part_but_are_none_stay(tmp_path: Path) -> None:
    others = {
        "events-0001.jsonl": b"my notes",
        "events-0007.jsonl": b'{"schema":2,"type":"table"}\n',
        "events-2026.jsonl": b"\xff\xfe",
        "events-2025-01-01.jsonl": RUN_LINE,  # of a rotation by day
        "events-00012.jsonl": RUN_LINE,  # not how parts are numbered
    }
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, (1e9, 1e9))
    (tmp_path / "events-0003.jsonl").mkdir()
    os.mkfifo(tmp_path / "events-0004.jsonl")
    files = write_much(tmp_path / "events.jsonl", Rotation(10_000, keep=1))
    assert len(files) == 2
    assert {name: (tmp_path / name).read_bytes() for name in others} == others
    rest = {"events-0003.jsonl", "events-0004.jsonl", *(path.name for path in files)}
    assert set(names(tmp_path)) == {*others, *rest}


def test_file_that_another_run_writes_is_no_part(tmp_path: Path) -> None:
    other = rotating(tmp_path / "cam-1001.jsonl", Rotation(10_000))
    files = write_much(tmp_path / "cam.jsonl", Rotation(10_000, keep=2))
    assert all(path.name.startswith("cam-00") for path in files[:-1])
    assert len(files) == 3
    assert set(names(tmp_path)) == {"cam-1001.jsonl", *(path.name for path in files)}
    other.close()


def test_parts_of_earlier_runs_are_counted_and_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    for name in ("a-0001.csv", "a-0002.csv"):
        (tmp_path / name).write_bytes(b"# " + RUN_LINE)
        os.utime(tmp_path / name, (1e9, 1e9))
    (tmp_path / "a-2019.csv").write_text("year,people\n")
    output = RotatingOutput(str(path), "a", Rotation(10_000, keep=2))
    for _ in range(2):
        output.write(b"x" * 9_000 + b"\n")
    output.close()
    assert names(tmp_path) == ["a-0002.csv", "a-0003.csv", "a-2019.csv", "a.csv"]

    today = date(2026, 11, 27)
    monkeypatch.setattr("emotion_runtime.sinks.rotation._today", lambda: today)
    (tmp_path / "a-2026-11-01.csv").write_bytes(b"# " + RUN_LINE)
    output = RotatingOutput(str(path), "a", Rotation(keep=1))
    output.write(b"1\n")
    today = date(2026, 11, 28)
    output.write(b"2\n")
    output.close()
    assert names(tmp_path) == ["a-0002.csv", "a-0003.csv", "a-2019.csv", "a-2026-11-27.csv", "a.csv"]


def test_folder_that_cannot_be_written_stops_the_rotation_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "events.jsonl"
    sink = rotating(path, Rotation(10_000))

    def refuse(_self: Path, _target: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    for index in range(60):
        sink.write(frame(index), event(BOTH, frame=index))
    sink.close()
    assert names(tmp_path) == ["events.jsonl"]
    assert [line["frame"] for line in lines_of(path) if line["type"] == "frame"] == list(range(60))
    assert 1 < caplog.text.count("cannot be renamed to events-0001.jsonl (Permission denied)") < 5


def test_second_run_is_refused_while_the_first_rotates(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first = rotating(path, Rotation(10_000))
    for index in range(30):
        first.write(frame(index), event(BOTH, frame=index))
        with pytest.raises(EmotionError, match="another run"):
            rotating(path, Rotation(10_000))
    first.close()


WRITER = """
import sys
from sample_events import event, frame, person
from emotion_runtime.sinks.jsonl import JsonlSink
from emotion_runtime.sinks.rotation import Rotation
sink = JsonlSink(sys.argv[1], append=True, rotation=Rotation(10_000))
BOTH = person(1, (10.0, 10.0, 50.0, 60.0))
for index in range(int(sys.argv[2]), 10**9):
    sink.write(frame(index), event(BOTH, frame=index))
    print(index, flush=True)
"""


@pytest.mark.slow
def test_killed_while_it_rotates_nothing_is_lost_or_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    folders = [*filter(None, sys.path), str(Path(__file__).parent)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders)}
    last = -1
    for attempt in range(5):
        command = [sys.executable, "-c", WRITER, str(path), str(last + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.05 + 0.013 * attempt)
            process.send_signal(signal.SIGKILL)
            printed = process.stdout.read().split()
        last = max((int(number) for number in printed), default=last + 1)
        written = [
            line["frame"]
            for part in [*tmp_path.iterdir()]
            for line in lines_of(part)
            if line["type"] == "frame"
        ]
        assert sorted(written)[: last + 1] == list(range(last + 1))  # printed means written
        last = max(written)
    assert sorted(written) == list(range(last + 1))
    assert len(names(tmp_path)) > 3


@pytest.mark.slow
def test_killed_service_goes_on_with_its_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    options = ["--source", "demo", "--realtime", "--append", "--jsonl", str(path), "--rotate", "20kB"]
    command = [sys.executable, "-m", "emotion_runtime", *options]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        give_up = time.monotonic() + 60
        while len(names(tmp_path)) < 2 and time.monotonic() < give_up:
            time.sleep(0.02)
        process.kill()
    before = {part.name: part.read_bytes() for part in tmp_path.iterdir()}
    assert len(before) >= 2
    assert main([*options, "--max-frames", "5"]) == 0
    after = sorted(tmp_path.iterdir(), key=lambda part: (part == path, part.name))
    kept = [line for content in before.values() for line in content.splitlines()]
    now = [line for part in after for line in part.read_bytes().splitlines()]
    assert set(kept) <= set(now)
    frames = [sum(b'"type":"frame"' in line for line in some) for some in (kept, now)]
    assert frames[1] == frames[0] + 5
    assert all(lines_of(part) for part in after)
