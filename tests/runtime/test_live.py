"""Real time: the newest frame first, drops counted, cameras and the demo scene."""

import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import SourceBroken
from emotion_runtime.sources import Source, camera, live, open_source
from emotion_runtime.tracker import Tracker
from emotion_runtime.types import Frame

CLIP = "intel_face-demographics-walking-and-pause.gif"


def numbered(count: int, wait: Callable[[int], None]) -> Generator[Frame, None, None]:
    for index in range(count):
        wait(index)
        yield Frame(np.zeros((1, 1, 3), np.uint8), index, index / 100, "made")


def test_the_newest_frame_wins_and_the_others_are_counted() -> None:
    taken, produced = threading.Event(), threading.Event()

    def wait(index: int) -> None:
        if index == 1:
            taken.wait(5)  # the consumer holds frame 0 while 1 to 9 come

    def frames() -> Generator[Frame, None, None]:
        yield from numbered(10, wait)
        produced.set()

    got = []
    for frame in live.newest(frames(), name="made"):
        got.append((frame.index, frame.dropped))
        taken.set()
        produced.wait(5)
    assert got == [(0, 0), (9, 8)]


def test_every_frame_is_delivered_to_a_consumer_who_is_quick_enough() -> None:
    asked = threading.Semaphore(1)

    def wait(_: int) -> None:
        asked.acquire(timeout=5)

    got = []
    for frame in live.newest(numbered(20, wait), name="made"):
        got.append(frame.index)
        assert frame.dropped == 0
        asked.release()
    assert got == list(range(20))


def test_errors_of_the_capture_thread_come_after_its_last_frame() -> None:
    def frames() -> Generator[Frame, None, None]:
        yield from numbered(1, lambda _: None)
        raise SourceBroken("unplugged")

    stream = live.newest(frames(), name="made")
    assert next(stream).index == 0
    with pytest.raises(SourceBroken, match="unplugged"):
        next(stream)


def test_silence_is_a_break() -> None:
    def silent(_: int) -> None:
        time.sleep(1)

    with pytest.raises(SourceBroken, match=r"no frame for 0\.1 s"):
        next(live.newest(numbered(1, silent), name="made", silence=0.1))


def test_closing_ends_the_capture_thread() -> None:
    ended = threading.Event()

    def frames() -> Generator[Frame, None, None]:
        try:
            yield from numbered(10**9, lambda _: time.sleep(0.001))
        finally:
            ended.set()

    source = Source(live.newest(frames(), name="made"))
    with source:
        next(iter(source))
    assert ended.is_set()


def test_a_file_in_real_time_keeps_its_pace(shared_data: Path) -> None:
    start = time.monotonic()
    taken = 0
    with open_source(str(shared_data / "videos" / CLIP), realtime=True) as source:
        for frame in source:
            # Never early; how late depends on the machine.
            assert frame.captured is not None
            assert start + frame.t <= frame.captured <= time.monotonic()
            assert frame.index == taken + frame.dropped
            taken += 1
            if frame.t > 0.5:
                break
    assert taken >= 1


def test_camera_frames_carry_the_moment_and_the_end_is_a_break(shared_data: Path) -> None:
    # A real capture object; a file stands in for the device, and its end for a pulled cable.
    capture = cv2.VideoCapture(str(shared_data / "videos" / CLIP))
    before = time.monotonic()
    frames: list[Frame] = []
    stream = camera.frames_of(capture, "0")
    with pytest.raises(SourceBroken, match="camera 0 broke after frame 40"):
        frames += stream  # those before the break stay
    assert [frame.index for frame in frames] == list(range(41))
    moments = [frame.captured or 0.0 for frame in frames]
    assert before <= moments[0] == min(moments)
    assert [frame.t for frame in frames] == pytest.approx([moment - moments[0] for moment in moments])
    assert not capture.isOpened()


def test_the_demo_is_two_people_six_seconds_the_same_every_time() -> None:
    detector, tracker = load_detector("face", threads=1), Tracker()
    with open_source("demo") as source, open_source("demo") as again:
        for frame, same in zip(source, again, strict=True):
            assert frame.image.shape == (360, 640, 3)
            assert frame.t == pytest.approx(frame.index / 25)
            np.testing.assert_array_equal(frame.image, same.image)
            if frame.index % 3 == 0:
                found = detector(frame.image)
                assert len(found.scores) == 2
                tracks = tracker.update(found, frame.t)
                assert frame.index < 9 or [(track.id, track.seen) for track in tracks] == [
                    (1, True),
                    (2, True),
                ]
    assert frame.index == 149
