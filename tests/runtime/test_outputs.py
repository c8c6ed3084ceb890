"""Output files: appended or replaced, locked, and what happens when one of them fails."""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from threading import Event

import av
import cv2
import msgspec
import numpy as np
import pytest
from sample_events import event, frame, person

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks import open_sinks
from emotion_runtime.sinks.base import Outputs
from emotion_runtime.sinks.folder import FolderSink
from emotion_runtime.sinks.group import SinkGroup
from emotion_runtime.sinks.jsonl import JsonlSink
from emotion_runtime.sinks.outputs import check_outputs
from emotion_runtime.sinks.video import VideoSink
from emotion_runtime.types import EmotionEvent, Frame, RunLine, StatusLine

RUN = RunLine(version="1", bundle="nano", bundle_sha256="0" * 64, head="probe", options={"window": 2.0})


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path: Path, count: int, *, append: bool) -> None:
    sink = JsonlSink(str(path), append=append, run=RUN)
    for index in range(count):
        sink.write(frame(index), event(frame=index))
    sink.close()


# --- JSON lines ---


def test_second_run_appends_or_replaces(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write_lines(path, 3, append=False)
    write_lines(path, 2, append=True)
    assert [line["type"] for line in lines_of(path)] == [*["run"] + ["frame"] * 3, *["run"] + ["frame"] * 2]
    write_lines(path, 1, append=False)
    assert [line["type"] for line in lines_of(path)] == ["run", "frame"]
    assert lines_of(path)[0] == msgspec.to_builtins(RUN)


def test_appending_leaves_the_cut_line_of_a_killed_run_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"schema":2}\n{"sche')
    write_lines(path, 1, append=True)
    texts = path.read_text().splitlines()
    assert texts[:2] == ['{"schema":2}', '{"sche']
    assert [json.loads(text)["type"] for text in texts[2:]] == ["run", "frame"]


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


# --- pipes ---


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_named_pipe_without_a_reader_waits_until_the_run_is_stopped(fifo: Path) -> None:
    stopped = Event()
    threading.Timer(0.3, stopped.set).start()
    start = time.monotonic()
    sink = JsonlSink(str(fifo), run=RUN, stopped=stopped)
    assert time.monotonic() - start < 1.5
    assert not sink.write(frame(), event())
    sink.close()


def test_named_pipe_without_a_reader_is_an_error_in_the_end(
    fifo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("emotion_runtime.sinks.byte_output._NO_READER", 0.2)
    with pytest.raises(EmotionError, match="start the reader first"):
        JsonlSink(str(fifo))


def test_reader_that_leaves_a_named_pipe_is_a_normal_end(fifo: Path) -> None:
    received: list[bytes] = []

    def read_one() -> None:
        with fifo.open("rb") as reader:
            received.append(reader.readline())

    thread = threading.Thread(target=read_one)
    thread.start()
    sinks = SinkGroup([JsonlSink(str(fifo), run=RUN)])
    thread.join()
    wanted = [sinks.write(frame(index), event(frame=index)) for index in range(3)]
    sinks.close()
    assert not wanted[-1]
    assert sinks.failures == []
    assert json.loads(received[0])["type"] == "run"


def test_reader_that_no_longer_reads_does_not_hold_a_stop(fifo: Path) -> None:
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    stopped = Event()
    sink = JsonlSink(str(fifo), stopped=stopped)
    threading.Timer(0.5, stopped.set).start()
    start = time.monotonic()
    while sink.write(frame(), event(*(person(i, (0, 0, 9, 9)) for i in range(20)))):
        assert time.monotonic() - start < 5
    assert time.monotonic() - start < 2
    os.close(reader)


@pytest.mark.parametrize("closed", ["<&- >&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_give_no_traceback(tmp_path: Path, closed: str) -> None:
    log = tmp_path / "log"
    program = f"{sys.executable} -c 'import sys; from emotion_runtime.cli import main; sys.exit(main())'"
    arguments = "--source missing.mp4 --jsonl -"
    done = subprocess.run(
        ["/bin/sh", "-c", f"{program} {arguments} {closed}"], check=False, stderr=log.open("wb"), timeout=60
    )
    assert done.returncode == 2
    assert "Traceback" not in log.read_text()


def test_json_on_a_closed_standard_output_is_one_line() -> None:
    program = f"{sys.executable} -c 'import sys; from emotion_runtime.cli import main; sys.exit(main())'"
    for arguments in ("--source demo --jsonl - --max-frames 1", "--print-config"):
        done = subprocess.run(
            ["/bin/sh", "-c", f"{program} {arguments} >&-"], check=False, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("emotion-runtime: error: standard output is closed")


# --- sinks that fail ---


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
    with pytest.raises(EmotionError, match="cannot be written"):
        SinkGroup(open_sinks(Outputs(jsonl=str(path), record=str(tmp_path / "missing" / "out.mp4"))))
    JsonlSink(str(path)).close()  # not locked any more


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
    assert any(f"o{suffix}" in failure and "disk space" in failure for failure in sinks.failures)


# --- recordings ---


def frames_in(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [decoded.to_ndarray(format="bgr24") for decoded in container.decode(video=0)]


def record(sink: VideoSink | FolderSink, times: list[float], source: str = "a") -> None:
    for index, t in enumerate(times):
        sink.write(frame(index, t, size=(160, 90), source=source), event(frame=index, t=t))
    sink.close()


def test_recording_is_cut_into_segments_by_time(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", segment=2.0)
    record(sink, [7 + index / 10 for index in range(45)])
    assert [path.name for path in sink.files] == ["out-0001.mp4", "out-0002.mp4", "out-0003.mp4"]
    assert [len(frames_in(path)) for path in sink.files] == [20, 20, 5]
    again = VideoSink(tmp_path / "out.mp4", segment=2.0, append=True)
    record(again, [0.0])
    assert [path.name for path in again.files] == ["out-0004.mp4"]


def test_appending_records_under_the_next_number(tmp_path: Path) -> None:
    for expected in ("out.mp4", "out-0002.mp4", "out-0003.mp4"):
        sink = VideoSink(tmp_path / "out.mp4", append=True)
        record(sink, [0.0, 0.1])
        assert [path.name for path in sink.files] == [expected]
    assert len(frames_in(tmp_path / "out.mp4")) == 2


def test_recordings_are_numbered_by_source_even_if_the_first_gives_no_frame(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", sources=("a", "b"))
    record(sink, [0.0], source="b")
    assert [path.name for path in sink.files] == ["out-2.mp4"]


def test_second_run_on_the_same_recording_is_refused(tmp_path: Path) -> None:
    first = VideoSink(tmp_path / "out.mp4")
    first.write(frame(), event())
    with pytest.raises(EmotionError, match="another run"):
        VideoSink(tmp_path / "out.mp4")
    first.close()
    assert len(frames_in(tmp_path / "out.mp4")) == 1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_recording_killed_after_twelve_frames_plays(tmp_path: Path, suffix: str) -> None:
    program = (
        "import os, signal, sys\n"
        "import numpy as np\n"
        "from emotion_runtime.sinks.video import VideoSink\n"
        "from emotion_runtime.types import EmotionEvent, Frame\n"
        "sink = VideoSink(sys.argv[1])\n"
        "for i in range(12):\n"
        "    image = np.full((96, 128, 3), 9 * i, np.uint8)\n"
        "    sink.write(Frame(image, i, i / 25, 'x'), EmotionEvent(source='x', frame=i, t=0, persons=[]))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / f"out{suffix}"
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == -9
    assert len(frames_in(path)) >= 5


def test_changed_frame_size_is_letterboxed(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", lambda image, _: image)
    white = np.full((100, 200, 3), 255, np.uint8)
    sink.write(Frame(white, 0, 0.0, "a"), event())
    sink.write(Frame(white.transpose(1, 0, 2).copy(), 1, 0.1, "a"), event())  # upright: 100 x 200
    sink.close()
    _, image = frames_in(tmp_path / "out.mp4")
    assert image.shape == (100, 200, 3)
    light = image.mean(axis=(0, 2)) > 128
    assert np.flatnonzero(light)[[0, -1]] == pytest.approx([75, 124], abs=2)  # 50 columns in the middle
    assert image[:, 90:110].mean() > 245


def test_recording_states_its_colours(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4")
    record(sink, [0.0])
    with av.open(str(tmp_path / "out.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (1, 1, 1, 1)


@pytest.mark.slow
def test_memory_of_a_segmented_recording_does_not_grow(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "import numpy as np\n"
        "from emotion_runtime.sinks.video import VideoSink\n"
        "from emotion_runtime.types import EmotionEvent, Frame\n"
        "def rss(): return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "sink = VideoSink(sys.argv[1], lambda image, _: image, segment=40.0)\n"
        "image = np.zeros((32, 32, 3), np.uint8)\n"
        "for i in range(30_001):\n"
        "    sink.write(Frame(image, i, i / 25, 'x'), EmotionEvent(source='x', frame=i, t=0, persons=[]))\n"
        "    if i == 3000: before = rss()\n"
        "print(rss() - before)\n"
        "sink.close()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "out.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1_200_000  # without segments 77 bytes a frame: 2.1 million


# --- folders of copies ---


def test_photos_and_videos_are_copied_under_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    sink = FolderSink(folder)
    for name in ("a/one.jpg", "b/one.jpg", "b/two.png", "b/three.heic"):
        photo = Frame(np.full((40, 60, 3), 90, np.uint8), 0, 0.0, str(tmp_path / name), still=True)
        sink.write(photo, event(person(1, (10, 10, 30, 30), state="photo")))
    sink.write(frame(0, 0.0, size=(64, 48), source="v/first.avi"), event())
    sink.write(frame(0, 0.0, size=(64, 48), source="v/second.mkv"), event())
    sink.close()
    names = ["one.jpg", "one-2.jpg", "two.png", "three.jpg", "first.mp4", "second.mkv"]
    assert [path.name for path in sink.files] == names
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert [cv2.imread(str(folder / name)).shape for name in names[:4]] == [(40, 60, 3)] * 4


def test_folder_of_a_source_is_refused_for_its_copies(tmp_path: Path) -> None:
    source, other = tmp_path / "a.avi", tmp_path / "copies"
    source.touch()
    for sources in ([str(source)], [str(tmp_path)], ["demo", str(source)]):
        with pytest.raises(EmotionError, match="give another folder"):
            check_outputs(None, str(tmp_path), sources)
        check_outputs(None, str(other), sources)


def test_photo_is_never_replaced_by_its_copy(tmp_path: Path) -> None:
    source = tmp_path / "me.png"
    cv2.imwrite(str(source), np.zeros((40, 60, 3), np.uint8))
    before = source.read_bytes()
    sink = FolderSink(tmp_path)
    with pytest.raises(EmotionError, match="another folder"):
        sink.write(Frame(np.zeros((40, 60, 3), np.uint8), 0, 0.0, str(source), still=True), event())
    assert source.read_bytes() == before
