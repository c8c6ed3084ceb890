"""Cameras that a test drives by hand, and detectors without a network."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone

import numpy as np

from emotion_runtime.metrics import StageTimer
from emotion_runtime.rounds import Rounds
from emotion_runtime.types import Detections, Frame, SourceStatus, StatusLine

IMAGE = np.zeros((96, 128, 3), np.uint8)


class FakeCamera:
    """A live source that a test drives by hand."""

    live = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.over = False
        self.error: Exception | None = None
        self.calls: list[str] = []
        self._lock = threading.Lock()
        self._frame: Frame | None = None
        self._count = self._dropped = 0
        self._statuses: list[StatusLine] = []
        self._callback: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[Frame]:
        raise AssertionError("the loop polls live sources")

    def give(self, time_: datetime | None = None) -> None:
        now = time.monotonic()
        with self._lock:
            self._dropped += self._frame is not None
            self._frame = Frame(
                IMAGE,
                self._count,
                self._count / 30,
                self.name,
                captured=now,
                dropped=self._dropped,
                time=time_,
            )
            self._count += 1
        self._callback()

    def say(self, status: SourceStatus, reason: str | None = None, at: datetime | None = None) -> None:
        at = at or datetime.now(timezone.utc)
        with self._lock:
            self._statuses.append(StatusLine(source=self.name, time=at, status=status, reason=reason))
        self._callback()

    def end(self, error: Exception | None = None) -> None:
        self.error, self.over = error, True
        self._callback()

    def poll(self) -> Frame | None:
        with self._lock:
            frame, self._frame = self._frame, None
        return frame

    def take_statuses(self) -> list[StatusLine]:
        with self._lock:
            taken, self._statuses = self._statuses, []
        return taken

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callback = callback

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def stop(self) -> None:
        self.calls.append("stop")

    def close(self) -> None:
        self.calls.append("close")


class Paced(FakeCamera):
    """A camera with a frame rate, from a thread of its own, until it is stopped."""

    def __init__(self, name: str, rate: float, *, frames: int | None = None) -> None:
        super().__init__(name)
        self._rate, self._frames = rate, frames
        self._stop = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        start = time.monotonic()
        self.say("live")
        while not self._stop.wait(max(start + self._count / self._rate - time.monotonic(), 0)):
            if self._count == self._frames:
                self.say("lost", "unplugged")
                return
            self.give(datetime.now(timezone.utc))

    def stop(self) -> None:
        self._stop.set()


class Hanging(FakeCamera):
    """A camera whose library never returns, not even when it is closed."""

    def close(self) -> None:
        threading.Event().wait()


def nobody(_image_bgr: np.ndarray) -> Detections:
    return Detections.empty()


def somebody(_image_bgr: np.ndarray) -> Detections:
    return Detections(np.array([(16, 24, 48, 64)], np.float32), np.array([0.9], np.float32))


def slowly(_image_bgr: np.ndarray) -> Detections:
    time.sleep(0.02)
    return Detections.empty()


def rounds_of(*sources: object, **options: float) -> Rounds:
    return Rounds(list(sources), StageTimer(), **options)
