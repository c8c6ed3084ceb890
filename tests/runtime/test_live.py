"""Real time: the newest frame is taken and drops are counted; cameras and the demo scene."""

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
        yield Frame(np.zeros((1, 1, 3), np.uint8), index, index / 100, "test")


def test_newest_frame_is_taken_and_the_others_are_counted() -> None:
    taken, produced = threading.Event(), threading.Event()

    def wait(index: int) -> None:
        if index == 1:
            taken.wait(5)  # the consumer has frame 0 while 1 to 9 are captured

    def frames() -> Generator[Frame, None, None]:
        yield from numbered(10, wait)
        produced.set()

    received = []
    for frame in live.newest(frames(), name="test"):
        received.append((frame.index, frame.dropped))
        taken.set()
        produced.wait(5)
    assert received == [(0, 0), (9, 8)]


def test_fast_consumer_gets_every_frame() -> None:
    requested = threading.Semaphore(1)

    def wait(_: int) -> None:
        requested.acquire(timeout=5)

    received = []
    for frame in live.newest(numbered(20, wait), name="test"):
        received.append(frame.index)
        assert frame.dropped == 0
        requested.release()
    assert received == list(range(20))


def test_errors_of_the_capture_thread_come_after_its_last_frame() -> None:
    def frames() -> Generator[Frame, None, None]:
        yield from numbered(1, lambda _: None)
        raise SourceBroken("unplugged")

    stream = live.newest(frames(), name="test")
    assert next(stream).index == 0
    with pytest.raises(SourceBroken, match="unplugged"):
        next(stream)


def test_silence_is_a_failure() -> None:
    def silent(_: int) -> None:
        time.sleep(1)

    with pytest.raises(SourceBroken, match=r"no frame for 0\.1 s"):
        next(live.newest(numbered(1, silent), name="test", silence=0.1))


def test_closing_ends_the_capture_thread() -> None:
    ended = threading.Event()

    def frames() -> Generator[Frame, None, None]:
        try:
            yield from numbered(10**9, lambda _: time.sleep(0.001))
        finally:
            ended.set()

    source = Source(live.newest(frames(), name="test"))
    with source:
        next(iter(source))
    assert ended.is_set()


def test_file_in_real_time_keeps_its_pace(shared_data: Path) -> None:
    start = time.monotonic()
    taken = 0
    with open_source(str(shared_data / "videos" / CLIP), realtime=True) as source:
        for frame in source:
            # Frames are never early; how late they are depends on the machine.
            assert frame.captured is not None
            assert start + frame.t <= frame.captured <= time.monotonic()
            assert frame.index == taken + frame.dropped
            taken += 1
            if frame.t > 0.5:
                break
    assert taken >= 1


def test_camera_frames_have_capture_times_and_the_end_is_a_failure(shared_data: Path) -> None:
    # A real capture object: a file replaces the device, and its end an unplugged cable.
    capture = cv2.VideoCapture(str(shared_data / "videos" / CLIP))
    before = time.monotonic()
    frames: list[Frame] = []
    stream = camera.frames_of(capture, "0")
    with pytest.raises(SourceBroken, match="camera 0 failed after frame 40"):
        frames += stream  # frames before the failure are kept
    assert [frame.index for frame in frames] == list(range(41))
    captured = [frame.captured or 0.0 for frame in frames]
    assert before <= captured[0] == min(captured)
    assert [frame.t for frame in frames] == pytest.approx([t - captured[0] for t in captured])
    assert not capture.isOpened()


def test_demo_shows_two_people_for_six_seconds_and_is_deterministic() -> None:
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
