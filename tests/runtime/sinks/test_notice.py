"""What a window and a recording show while a camera gives no image."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from sample_events import event, frame

from emotion_runtime.sinks import window
from emotion_runtime.sinks.folder import FolderSink
from emotion_runtime.sinks.group import SinkGroup
from emotion_runtime.sinks.notice import Notices, notice
from emotion_runtime.sinks.video import VideoSink
from emotion_runtime.sinks.window import WindowSink
from emotion_runtime.types import Frame, SourceStatus, StatusLine

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone.utc)


def live(index: int, t: float) -> Frame:
    return replace(frame(index, t, source="door"), captured=t, time=NOON + timedelta(seconds=t))


def line(status: SourceStatus, t: float, reason: str | None = None) -> StatusLine:
    return StatusLine(source="door", time=NOON + timedelta(seconds=t), status=status, reason=reason)


def test_notice_is_drawn_once_until_a_frame_comes():
    notices = Notices()
    assert notices.draw(line("connecting", 0)) is not None
    notices.see(live(0, 1.0))
    first = notices.draw(line("lost", 3.5, "unplugged"))
    assert first is not None
    assert first.t == 3.5
    assert first.image.shape == (270, 480, 3)
    assert float(first.image.mean()) < 60  # darker than the frame
    assert first.image.max() > 200  # with letters
    assert notices.draw(line("lost", 4.0, "refused")) is None
    for status in ("live", "degraded", "ended"):
        assert notices.draw(line(status, 5.0)) is None
    notices.see(live(1, 6.0))
    assert notices.draw(line("frozen", 7.0)) is not None


@pytest.mark.parametrize("size", [(2, 2), (33, 20), (640, 360), (4000, 100)])
def test_notice_fits_on_any_image(size: tuple[int, int]):
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    assert notice(image, "camera 'front door': no signal since 12:03:04").shape == image.shape


def test_recording_says_that_there_is_no_signal(tmp_path: Path):
    path = tmp_path / "out.mp4"
    sink = VideoSink(path, lambda image, _: image)
    assert sink.write_status(line("connecting", 0))  # nothing is recorded before the first frame
    assert not path.exists()
    sink.write(live(0, 0.0), event())
    sink.write(live(1, 0.04), event())
    sink.write_status(line("lost", 1.0))
    sink.write(live(2, 5.0), event())
    sink.close()
    with av.open(str(path)) as container:
        images = [(each.time, each.to_ndarray(format="gray").mean()) for each in container.decode(video=0)]
    assert [round(t, 2) for t, _ in images] == [0.0, 0.04, 1.0, 5.0]
    assert images[2][1] < images[1][1] - 20
    assert images[3][1] == pytest.approx(images[0][1], abs=3)


def test_what_is_hidden_in_the_images_stays_hidden(tmp_path: Path):
    path = tmp_path / "out.mp4"
    sink = VideoSink(path, lambda image, _: np.full_like(image, 200))
    sink.write(live(0, 0.0), event())
    sink.write_status(line("lost", 1.0))
    sink.close()
    with av.open(str(path)) as container:
        *_, last = (each.to_ndarray(format="gray") for each in container.decode(video=0))
    assert last[:20].mean() == pytest.approx(0.45 * 200, abs=5)  # not of the grey 90 of the source


def test_recording_into_a_folder_says_it_too(tmp_path: Path):
    sink = FolderSink(tmp_path, lambda image, _: image)
    assert sink.write_status(line("lost", 0.0))
    sink.write(live(0, 0.0), event())
    sink.write_status(line("lost", 1.0))
    sink.close()
    with av.open(str(tmp_path / "door.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 2


def test_window_shows_it_and_can_be_closed_meanwhile(monkeypatch: pytest.MonkeyPatch):
    shown: list[float] = []
    keys = [-1, -1, -1, ord("q")]
    monkeypatch.setattr(window, "display_problem", lambda: None)
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda _, image: shown.append(float(image.mean())))
    monkeypatch.setattr(cv2, "waitKey", lambda _: keys.pop(0))
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(cv2, "destroyWindow", lambda *_: None)
    sinks = SinkGroup([WindowSink(lambda image, _: image)])
    assert sinks.idle()  # there is no window yet
    assert sinks.write(live(0, 0.0), event())
    sinks.write_status(line("lost", 1.0))
    assert shown[1] < shown[0]
    assert sinks.idle()
    assert not sinks.idle()  # q
    sinks.close()
