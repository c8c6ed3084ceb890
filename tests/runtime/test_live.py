"""Real time: the newest frame is taken and drops are counted; cameras and the demo scene."""

import threading
import time
from collections.abc import Callable, Generator
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import SourceBroken
from emotion_runtime.sources import open_source
from emotion_runtime.sources.live import LiveSource
from emotion_runtime.sources.polled import PacedSource
from emotion_runtime.sources.shots import Connect, Shot
from emotion_runtime.tracker import Tracker
from emotion_runtime.types import Frame

CLIP = "intel_face-demographics-walking-and-pause.gif"


def shots(count: int, wait: Callable[[int], None]) -> Connect:
    """Return a connection that delivers images and then nothing more."""

    def connect(stop: threading.Event) -> Generator[Shot, None, None]:
        for index in range(count):
            wait(index)
            yield Shot(np.zeros((1, 1, 3), np.uint8), time.monotonic(), datetime.now(timezone.utc))
        stop.wait(10)

    return connect


def test_newest_frame_is_taken_and_the_others_are_counted() -> None:
    taken, produced = threading.Event(), threading.Event()

    def wait(index: int) -> None:
        if index == 1:
            taken.wait(5)  # the consumer has frame 0 while 1 to 9 are captured
        if index == 9:
            produced.set()

    received = []
    with LiveSource("door", shots(10, wait)) as source:
        for frame in source:
            received.append((frame.index, frame.dropped))
            taken.set()
            produced.wait(5)
            time.sleep(0.05)
            if frame.index == 9:
                break
    assert received == [(0, 0), (9, 8)]


def test_fast_consumer_gets_every_frame() -> None:
    requested = threading.Semaphore(1)
    received = []
    with LiveSource("door", shots(20, lambda _: bool(requested.acquire(timeout=5)) and None)) as source:
        for frame in source:
            received.append(frame.index)
            assert frame.dropped == 0
            requested.release()
            if frame.index == 19:
                break
    assert received == list(range(20))


def test_closing_ends_the_connection() -> None:
    ended = threading.Event()

    def connect(stop: threading.Event) -> Generator[Shot, None, None]:
        try:
            yield from shots(10**9, lambda _: time.sleep(0.001))(stop)
        finally:
            ended.set()

    with LiveSource("door", connect) as source:
        next(iter(source))
    assert ended.is_set()


@pytest.mark.parametrize("error", [SourceBroken("unplugged"), ValueError("a bug")])
def test_errors_of_a_file_in_real_time_come_after_its_last_frame(error: Exception) -> None:
    def frames() -> Generator[Frame, None, None]:
        yield Frame(np.zeros((1, 1, 3), np.uint8), 0, 0.0, "film")
        raise error

    with PacedSource(frames(), "film") as source:
        received = iter(source)
        assert next(received).index == 0
        with pytest.raises(type(error), match=str(error)):
            next(received)
        assert source.over
        assert source.error is error


def test_photos_in_real_time_wait_until_they_are_taken() -> None:
    image = np.zeros((1, 1, 3), np.uint8)

    def frames() -> Generator[Frame, None, None]:
        for name in ("a.png", "b.png", "c.png"):
            yield Frame(image, 0, 0.0, name, still=True)
        yield Frame(image, 0, 0.0, "film")

    names = []
    with PacedSource(frames(), "folder") as source:
        for frame in source:
            time.sleep(0.05)  # longer than it takes to read the next one
            names.append((frame.source, frame.dropped))
    assert names == [("a.png", 0), ("b.png", 0), ("c.png", 0), ("film", 0)]


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
