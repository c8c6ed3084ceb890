"""Output files: appended or replaced, locked, and what happens when one of them fails."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sample_events import EMOTIONS, RUN, event, frame, person

from emotion_runtime.cli import main
from emotion_runtime.errors import EmotionError
from emotion_runtime.feature_log import FeatureLog
from emotion_runtime.sinks import open_sinks
from emotion_runtime.sinks.base import Outputs
from emotion_runtime.sinks.group import SinkGroup
from emotion_runtime.sinks.jsonl import JsonlSink
from emotion_runtime.sinks.rotation import Rotation
from emotion_runtime.sinks.video import VideoSink
from emotion_runtime.types import EmotionEvent, Frame, StatusLine


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path: Path, count: int, *, append: bool) -> None:
    sink = JsonlSink(str(path), append=append, run=RUN)
    for index in range(count):
        sink.write(frame(index), event(frame=index))
    sink.close()


def test_second_run_appends_or_replaces(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write_lines(path, 3, append=False)
    write_lines(path, 2, append=True)
    assert [line["type"] for line in lines_of(path)] == [*["run"] + ["frame"] * 3, *["run"] + ["frame"] * 2]
    write_lines(path, 1, append=False)
    assert [line["type"] for line in lines_of(path)] == ["run", "frame"]
    assert lines_of(path)[0] == msgspec.to_builtins(RUN)


@pytest.mark.parametrize("last", ['{"sche', '{"schema":2}', "", '{"a":"' + "x" * 200_000])
def test_appending_begins_with_a_whole_line(tmp_path: Path, last: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"schema":2}\n' + last)
    write_lines(path, 1, append=True)
    whole = [{"schema": 2}] * (2 if last == '{"schema":2}' else 1)
    assert lines_of(path)[: len(whole)] == whole
    assert [line["type"] for line in lines_of(path)[len(whole) :]] == ["run", "frame"]


def test_cut_line_of_a_killed_run_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"sche')
    write_lines(path, 1, append=True)
    assert "its last line is incomplete, as after a power failure; these 6 bytes were cut off" in caplog.text


@pytest.mark.parametrize("append", [False, True])
def test_second_run_on_the_same_file_is_refused_and_harms_nothing(tmp_path: Path, append: bool) -> None:
    path = tmp_path / "out.jsonl"
    first = JsonlSink(str(path), run=RUN)
    first.write(frame(), event())
    program = (
        "import sys; from emotion_runtime.sinks.jsonl import JsonlSink; JsonlSink(sys.argv[1], append={})"
    )
    command = [sys.executable, "-c", program.format(append), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "is being written by another run" in done.stderr
    with pytest.raises(EmotionError, match="another run"):
        JsonlSink(str(path), append=append)
    first.write(frame(1), event(frame=1))
    first.close()
    assert [line["type"] for line in lines_of(path)] == ["run", "frame", "frame"]
    JsonlSink(str(path)).close()  # it is free again


def test_time_is_utc_and_only_there_where_it_is_known_or_wanted(tmp_path: Path) -> None:
    path, captured = tmp_path / "out.jsonl", datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone.utc)
    live = msgspec.structs.replace(event(), time=captured)
    for wall_clock in (False, True):
        sink = JsonlSink(str(path), append=True, wall_clock=wall_clock)
        sink.write(frame(), event())
        sink.write(frame(), live)
        sink.close()
    of_file, of_camera, with_clock, also_camera = lines_of(path)
    assert "time" not in of_file
    assert of_camera["time"] == also_camera["time"] == "2026-01-02T03:04:05.678000Z"
    age = datetime.now(timezone.utc) - datetime.fromisoformat(with_clock["time"].replace("Z", "+00:00"))
    assert 0 <= age.total_seconds() < 60


def test_status_of_a_source_is_a_line(tmp_path: Path) -> None:
    sinks = SinkGroup([JsonlSink(str(tmp_path / "out.jsonl")), VideoSink(tmp_path / "out.mp4")])
    sinks.write_status(
        StatusLine(source="0", time=datetime.now(timezone.utc), status="lost", reason="unplugged")
    )
    sinks.close()
    (line,) = lines_of(tmp_path / "out.jsonl")
    assert (line["type"], line["status"], line["reason"]) == ("status", "lost", "unplugged")


class FailingSink:
    """Fails at its second frame, and when it is closed."""

    def __init__(self) -> None:
        self.frames = 0

    def write(self, frame: Frame, event: EmotionEvent) -> bool:  # noqa: ARG002 - part of the Protocol
        self.frames += 1
        if self.frames == 2:
            raise EmotionError("broker gone; restart it")
        return True

    def close(self) -> None:
        raise EmotionError("cannot be closed either")


def test_failing_sink_is_dropped_with_one_line_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failing = FailingSink()
    sinks = SinkGroup([failing, JsonlSink(str(tmp_path / "out.jsonl"))])
    assert all(sinks.write(frame(index), event(frame=index)) for index in range(5))
    sinks.close()
    assert failing.frames == 2
    assert len(lines_of(tmp_path / "out.jsonl")) == 5
    assert sinks.failures == ["broker gone; restart it"]
    assert [record.getMessage() for record in caplog.records] == [
        "broker gone; restart it; the run goes on without this output"
    ]


def test_run_ends_when_its_last_sink_has_failed() -> None:
    sinks = SinkGroup([FailingSink()])
    assert [sinks.write(frame(), event()) for _ in range(2)] == [True, False]
    assert SinkGroup([]).write(frame(), event())


def test_sinks_that_are_open_are_closed_if_a_later_one_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(EmotionError, match="cannot be created"):
        SinkGroup(open_sinks(Outputs(jsonl=str(path), record=str(path / "out.mp4"))))
    JsonlSink(str(path)).close()  # not locked any more


def test_every_output_creates_its_folder(tmp_path: Path) -> None:
    names = {"jsonl": "a.jsonl", "csv": "a.csv", "report": "a.html", "record": "a.mp4", "embeddings": "a.npz"}
    paths = {name: tmp_path / name / "new" / file for name, file in names.items()}
    outputs = Outputs(**{name: str(path) for name, path in paths.items()}, features=FeatureLog(2, EMOTIONS))
    sinks = SinkGroup(open_sinks(outputs))
    sinks.write(frame(), event())
    sinks.close()
    assert sinks.failures == []
    assert all(path.is_file() for path in paths.values())


def test_outputs_go_where_links_lead_to(tmp_path: Path) -> None:
    """A link on a small disk to a large one stays, also when its file begins anew."""
    small, large = tmp_path / "small", tmp_path / "large"
    names = {"jsonl": "a.jsonl", "csv": "a.csv", "report": "a.html", "record": "a.mp4", "embeddings": "a.npz"}
    for folder in (small, large):
        folder.mkdir()
    for name in (*names.values(), "a-summary.csv"):
        (small / name).symlink_to(large / name)
    paths = {name: str(small / file) for name, file in names.items()}
    outputs = Outputs(**paths, features=FeatureLog(2, EMOTIONS), rotation=Rotation(10_000), run=RUN)
    sinks = SinkGroup(open_sinks(outputs))
    for index in range(20):
        sinks.write(frame(index, index / 25), event(person(1, (9, 9, 50, 60)), frame=index, t=index / 25))
    sinks.close()
    assert sinks.failures == []
    assert all(path.is_symlink() for path in small.iterdir())
    expected = {*names.values(), "a-summary.csv", "a-0001.jsonl"}
    assert {path.name for path in large.iterdir()} == expected
    assert b"written when the run ends" not in (large / "a.html").read_bytes()


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Let the kernel refuse to write more than 30,000 bytes to a file, like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("limit", [0, 20, 30_000])
def test_full_disk_ends_a_recording_and_nothing_else(tmp_path: Path, suffix: str, limit: int) -> None:
    rng = np.random.default_rng(0)
    sinks = SinkGroup([JsonlSink(str(tmp_path / "o.jsonl")), VideoSink(tmp_path / f"o{suffix}")])
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    for index in range(20):
        image = rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)
        sinks.write(Frame(image, index, index / 25, "a"), event(frame=index))
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    sinks.close()
    if limit == 30_000:
        assert len(lines_of(tmp_path / "o.jsonl")) == 20
        assert sinks.files == [tmp_path / "o.jsonl"]
        assert sinks.partial_files == [tmp_path / f"o{suffix}"]
    assert any(f"o{suffix}" in failure and "disk space" in failure for failure in sinks.failures)


@pytest.mark.parametrize(
    "content",
    [
        b"Dear diary, line without newline at the end",
        b"Dear diary\n",
        b"\x89PNG\r\n\x1a\n\0\0",
        b'{"name": "somebody"}\n{"name"',
        b"col1,col2",
        b"# notes",
        b"[1, 2]",
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
@pytest.mark.parametrize("rotation", [[], ["--rotate", "1MB"]])
def test_nothing_is_added_to_a_file_of_something_else(
    tmp_path: Path,
    tiny_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    name: str,
    rotation: list[str],
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    arguments = [
        "--source",
        "demo",
        "--no-show",
        "--bundle",
        str(tiny_bundle),
        "--max-frames",
        "1",
        "--append",
    ]
    assert main([*arguments, f"--{path.suffix[1:]}", str(path), *rotation]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert path.read_bytes() == content


def test_files_that_are_deleted_during_a_run_are_named(tmp_path: Path) -> None:
    lines, video = JsonlSink(str(tmp_path / "out.jsonl")), VideoSink(tmp_path / "out.mp4")
    for sink in (lines, video):
        sink.write(frame(0), event())
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(EmotionError, match=r"out\.jsonl: it was deleted during the run, so results are"):
        lines.write(frame(1), event(frame=1))
    lines.close()
    video.write(frame(1, 0.1), event(frame=1, t=0.1))
    with pytest.raises(EmotionError, match=r"out\.mp4: it was deleted during the run; run again"):
        video.close()
    video.close()
