"""Recordings and folders of copies: segments, numbers, sizes, colours, and what a killed run leaves."""

import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from sample_events import event, frame, person

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks.folder import FolderSink
from emotion_runtime.sinks.outputs import check_outputs
from emotion_runtime.sinks.video import VideoSink
from emotion_runtime.types import Frame

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


def test_files_of_a_longer_recording_of_before_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for seconds, warnings in ((45, []), (6, ["out-0002.mp4 to out-0003.mp4"]), (25, ["out-0003.mp4"])):
        caplog.clear()
        record(VideoSink(tmp_path / "out.mp4", segment=20.0), [float(t) for t in range(seconds)])
        assert [each.getMessage().partition(":")[0] for each in caplog.records] == warnings


def test_appending_records_under_the_next_number(tmp_path: Path) -> None:
    for expected in ("out.mp4", "out-0002.mp4", "out-0003.mp4"):
        sink = VideoSink(tmp_path / "out.mp4", append=True)
        record(sink, [0.0, 0.1])
        assert [path.name for path in sink.files] == [expected]
    assert len(frames_in(tmp_path / "out.mp4")) == 2


def test_recordings_are_numbered_by_source_even_if_the_first_gives_no_frame(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4", sources={"a": None, "b": None})
    record(sink, [0.0], source="b")
    assert [path.name for path in sink.files] == ["out-2.mp4"]


def test_file_of_a_source_that_ends_is_finished_and_not_replaced_when_it_comes_back(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4")
    sink.write(frame(size=(160, 90)), event())
    sink.end("a")
    sink.end("b")  # which gave no frame
    assert len(frames_in(tmp_path / "out.mp4")) == 1
    VideoSink(tmp_path / "out.mp4").close()  # not locked any more
    record(sink, [5.0, 5.1])
    assert [path.name for path in sink.files] == ["out.mp4", "out-0002.mp4"]
    assert [len(frames_in(path)) for path in sink.files] == [1, 2]


def test_a_closed_recording_is_not_replaced_by_a_late_frame(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "out.mp4")
    record(sink, [0.0, 0.1, 0.2])  # closes it
    with pytest.raises(EmotionError, match=r"out\.mp4: it is closed; make a new VideoSink to record more"):
        record(sink, [0.3])
    assert len(frames_in(tmp_path / "out.mp4")) == 3


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
        "    if i == 10_000: before = rss()  # by then the memory of buffers has settled\n"
        "print(rss() - before)\n"
        "sink.close()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "out.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1_000_000  # without segments 110 bytes a frame: 2.2 million


# --- folders of copies ---


def test_photos_and_videos_are_copied_under_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "copies"
    sink = FolderSink(folder)
    videos = [tmp_path / "v" / name for name in ("first.avi", "second.mkv")]
    for path in [*videos, tmp_path / "b" / "three.heic"]:  # a suffix is one only of a file that exists
        path.parent.mkdir(exist_ok=True)
        path.touch()
    for name in ("a/one.jpg", "b/one.jpg", "b/two.png", "b/three.heic"):
        photo = Frame(np.full((40, 60, 3), 90, np.uint8), 0, 0.0, str(tmp_path / name), still=True)
        sink.write(photo, event(person(1, (10, 10, 30, 30), state="photo")))
    sink.write(frame(0, 0.0, size=(64, 48), source=str(videos[0])), event())
    sink.write(frame(0, 0.0, size=(64, 48), source=str(videos[1])), event())
    sink.close()
    names = ["one.jpg", "one-2.jpg", "two.png", "three.jpg", "first.mp4", "second.mkv"]
    assert [path.name for path in sink.files] == names
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert [cv2.imread(str(folder / name)).shape for name in names[:4]] == [(40, 60, 3)] * 4


@pytest.mark.parametrize("name", ["wide.ppm", "wide.jpg"])
def test_photo_that_is_too_wide_for_jpeg_becomes_a_png(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    sink = FolderSink(tmp_path / "copies")
    image = np.full((8, 65_535, 3), 90, np.uint8)
    sink.write(Frame(image, 0, 0.0, str(tmp_path / name), still=True), event())
    sink.close()
    assert [path.name for path in sink.files] == ["wide.png"]
    assert cv2.imread(str(sink.files[0])).shape == image.shape


def test_copies_of_streams_have_their_whole_names(tmp_path: Path) -> None:
    sink = FolderSink(tmp_path)
    for source in ("10.0.0.7", "10.0.0.8", "Back door", "door"):
        sink.write(frame(0, 0.0, size=(160, 90), source=source), event(frame=0, t=0.0))
    sink.close()
    assert sorted(path.name for path in sink.files) == [
        "10.0.0.7.mp4",
        "10.0.0.8.mp4",
        "Back door.mp4",
        "door.mp4",
    ]


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
