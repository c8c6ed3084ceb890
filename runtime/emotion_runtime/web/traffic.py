"""How each camera does now: status, frames per second, drops, latency."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
import numpy as np

from emotion_runtime.types import WATCHING, EmotionEvent, SourceStatus, StatusLine

_SECONDS = 10.0  # that the frame rate and the percentiles are about
_EVENTS = 2000  # of these seconds, at most
_SOURCES = 1000  # that are remembered: every photo of a folder is one


class CameraState(msgspec.Struct, frozen=True, kw_only=True):
    """How a source does now.

    Attributes:
        name: Name of the source.
        status: Its status; None for a file, unless it is paused or, in real time, has ended.
        reason: What is wrong, in words.
        since: Since when it has this status.
        fps: Events per second over the last 10 seconds.
        frames: Events so far.
        dropped: Frames dropped so far.
        lost: How often the source was lost.
        people: People in view; None if only counts over several people are published.
        latency_p50_ms: Median of the milliseconds from capture to event, over the last 10 seconds; None for a
            file.
        latency_p95_ms: Their 95th percentile.
    """

    name: str
    status: SourceStatus | None
    reason: str | None
    since: datetime | None
    fps: float
    frames: int
    dropped: int
    lost: int
    people: int | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None


@dataclass(slots=True)
class _Counted:
    events: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_EVENTS))
    frames: int = 0
    dropped: int = 0
    lost: int = 0
    people: int | None = 0
    live: bool = False
    paused: bool = False  # by a client; a camera has a status for that
    status: StatusLine | None = None


class Traffic:
    """Counts the events of each source.

    Args:
        clock: Returns seconds; monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._sources: dict[str, _Counted] = {}

    def add(self, event: EmotionEvent, *, people: bool = True) -> None:
        """Count an event, and the people in it if they may be published."""
        with self._lock:
            counted = self._of(event.source)
            counted.events.append((self._clock(), event.latency_ms))
            counted.frames += 1
            counted.dropped = event.dropped
            counted.live |= event.time is not None or event.latency_ms > 0
            counted.people = sum(person.state != "lost" for person in event.persons) if people else None

    def add_status(self, line: StatusLine) -> None:
        """Take note of a change of the status of a source."""
        with self._lock:
            counted = self._of(line.source)
            before = None if counted.status is None else counted.status.status
            counted.lost += line.status == "lost" and before != "lost"
            counted.status = line
            if line.status not in WATCHING and counted.people is not None:
                counted.people = 0

    def set_paused(self, source: str, *, paused: bool) -> None:
        """Take note that a client has paused or resumed a source."""
        with self._lock:
            self._of(source).paused = paused

    def drop(self, source: str) -> None:
        """Forget a source that was removed."""
        with self._lock:
            self._sources.pop(source, None)

    def states(self) -> list[CameraState]:
        """Return how each source does, in the order of their first events."""
        with self._lock:
            now = self._clock()
            return [_state(name, counted, now) for name, counted in self._sources.items()]

    def _of(self, source: str) -> _Counted:
        counted = self._sources.get(source)
        if counted is None:
            while len(self._sources) >= _SOURCES:
                del self._sources[next(iter(self._sources))]
            counted = self._sources[source] = _Counted()
        return counted


def _state(name: str, counted: _Counted, now: float) -> CameraState:
    recent = [(at, latency) for at, latency in counted.events if now - at <= _SECONDS]
    fps = 0.0
    if len(recent) > 1:
        fps = (len(recent) - 1) / max(recent[-1][0] - recent[0][0], 1e-3)
        if now - recent[-1][0] > 2 / fps + 1:  # they have stopped
            fps = 0.0
    p50 = p95 = None
    if counted.live and recent:
        p50, p95 = (round(float(value), 1) for value in np.percentile([each for _, each in recent], [50, 95]))
    line = counted.status
    return CameraState(
        name=name,
        status=line.status if line is not None else "paused" if counted.paused else None,
        reason=None if line is None else line.reason,
        since=None if line is None else line.time,
        fps=round(fps, 1),
        frames=counted.frames,
        dropped=counted.dropped,
        lost=counted.lost,
        people=counted.people,
        latency_p50_ms=p50,
        latency_p95_ms=p95,
    )
