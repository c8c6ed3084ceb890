"""Connections of live sources that do what a test wants, and waiting for what comes of it."""

import threading
import time
from collections.abc import Callable, Generator
from datetime import datetime, timezone
from itertools import pairwise

import numpy as np

from emotion_runtime.errors import ConnectionLost
from emotion_runtime.sources.live import LiveSource
from emotion_runtime.sources.live_limits import LiveLimits
from emotion_runtime.sources.shots import Connect, Shot
from emotion_runtime.types import Frame

QUICK = LiveLimits(
    opening=0.3,
    silence=0.2,
    frozen=0.0,
    stale=0.3,
    retry=(0.002, 0.01),
    slow_retry=(0.3, 0.3),
    steady=0.1,
    join=0.02,
    hanging=3,
    losses=10**6,
)


def shot(captured: float | None = None, size: tuple[int, int] = (4, 6)) -> Shot:
    now = time.monotonic()
    image = np.full((*size, 3), 90, np.uint8)
    return Shot(image, now if captured is None else captured, datetime.now(timezone.utc))


def refused(_: threading.Event) -> Generator[Shot, None, None]:
    raise ConnectionLost("nobody answers; start it", "connection")
    yield


def steady(cancel: threading.Event) -> Generator[Shot, None, None]:
    while not cancel.wait(0.005):
        yield shot()


def in_turn(*connects: Connect) -> Connect:
    """Return a connection that is another one at each opening; the last one stays."""
    left = list(connects)

    def connect(cancel: threading.Event) -> Generator[Shot, None, None]:
        return (left.pop(0) if len(left) > 1 else left[0])(cancel)

    return connect


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def take(source: LiveSource, count: int) -> list[Frame]:
    frames: list[Frame] = []
    while len(frames) < count:
        wait_for(lambda: (frame := source.poll()) is not None and (frames.append(frame) or True))
    return frames


def rise(frames: list[Frame]) -> bool:
    """Return whether no frame has the time or the index of one before it, or an earlier one."""
    return all(one.t < other.t and one.index < other.index for one, other in pairwise(frames))


def statuses(source: LiveSource) -> list[tuple[str, str | None]]:
    return [(line.status, line.reason) for line in source.take_statuses()]


def steady_for(count: int) -> Connect:
    def connect(cancel: threading.Event) -> Generator[Shot, None, None]:
        for _ in range(count):
            cancel.wait(0.01)
            yield shot()

    return connect
