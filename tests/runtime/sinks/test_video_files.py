"""Video files: every frame at its time, in its colours, playable even after a kill."""

import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sample_events import event, frame, person

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks.video import VideoSink
from emotion_runtime.types import EmotionEvent


def decoded(path: Path) -> list[tuple[float, NDArray[np.uint8]]]:
    with av.open(str(path)) as container:
        return [(float(f.time), f.to_ndarray(format="bgr24")) for f in container.decode(video=0)]


def shade(image: NDArray[np.uint8], event: EmotionEvent) -> NDArray[np.uint8]:
    return np.full_like(image, 20 + 8 * event.frame)


@pytest.mark.parametrize("size", [(480, 270), (321, 181), (64, 49)])
def test_recording_has_every_frame_at_its_time(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "out.mp4"
    sink = VideoSink(str(path), shade)
    times = [5.0, 5.04, 5.2, 5.2, 6.0, 6.1]
    for index, t in enumerate(times):
        assert sink.write(frame(index, t, size=size), event(frame=index))
    sink.close()
    sink.close()
    images = decoded(path)
    assert [t for t, _ in images] == pytest.approx([t - 5 for t in times], abs=1e-3)
    for index, (_, image) in enumerate(images):
        assert image.shape == (size[1] + size[1] % 2, size[0] + size[0] % 2, 3)
        assert abs(image.mean() - (20 + 8 * index)) < 4


def test_recording_has_a_codec_for_browsers_and_its_duration(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    sink = VideoSink(str(path))
    for index in range(60):
        sink.write(frame(index, index / 25), event(person(1, (200, 60, 280, 150))))
    sink.close()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.frames == 60
        assert float(stream.duration * stream.time_base) == pytest.approx(60 / 25, abs=0.05)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(25, abs=0.1)


@pytest.mark.parametrize("size", [(480, 270), (1920, 1080)])
def test_recording_keeps_its_colours(tmp_path: Path, size: tuple[int, int]) -> None:
    color = (20, 200, 30)  # with the wrong colour standard players would show (13, 172, 16)
    sink = VideoSink(str(tmp_path / "out.mp4"), lambda image, _: np.full_like(image, color))
    sink.write(frame(size=size), event())
    sink.close()
    ((_, image),) = decoded(tmp_path / "out.mp4")
    assert np.abs(image.mean(axis=(0, 1)) - color).max() < 3


def test_killed_run_leaves_a_playable_file(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    program = (
        "import os, sys\n"
        "import numpy as np\n"
        "from emotion_runtime.sinks.video import VideoSink\n"
        "from emotion_runtime.types import EmotionEvent, Frame\n"
        "sink = VideoSink(sys.argv[1])\n"
        "for i in range(130):\n"
        "    image = np.full((96, 128, 3), i, np.uint8)\n"
        "    sink.write(Frame(image, i, i / 25, 'x'), EmotionEvent(source='x', frame=i, t=0.0, persons=[]))\n"
        "os._exit(1)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 1
    assert len(decoded(path)) >= 50


def test_second_source_gets_its_own_file(tmp_path: Path) -> None:
    sink = VideoSink(str(tmp_path / "out.mp4"), shade)
    for index in range(4):
        sink.write(frame(index, index / 25, source="a"), event(frame=0))
        sink.write(frame(index, index / 25, source="b", size=(64, 48)), event(frame=20))
    sink.close()
    assert [image.shape for _, image in decoded(tmp_path / "out.mp4")] == [(270, 480, 3)] * 4
    assert [image.shape for _, image in decoded(tmp_path / "out-2.mp4")] == [(48, 64, 3)] * 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.txt", "suffix"),
        ("out", "suffix"),
        ("file/out.mp4", "cannot be created"),
        ("dir.mp4", "directory"),
    ],
)
def test_unwritable_video_is_reported_before_the_first_frame(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "dir.mp4").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(EmotionError, match=message) as caught:
        VideoSink(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.txt").exists()


def test_recording_without_frames_leaves_no_file(tmp_path: Path) -> None:
    VideoSink(str(tmp_path / "out.mp4")).close()
    assert not (tmp_path / "out.mp4").exists()
