"""Measure the time of each stage, and summarise a run."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from emotion_runtime.types import EmotionEvent

# In processing order. "read" is decoding time for a file, and mostly waiting for a camera.
STAGES = ("read", "detect", "track", "crop", "encode", "temporal", "sinks")


class StageTimer:
    """Adds up wall-clock time by stage.

    Args:
        clock: Returns seconds; monotonic.

    Attributes:
        seconds: Time spent so far, by stage.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to the stage `name`, one of STAGES, even if the block raises."""
        start = self._clock()
        try:
            yield
        finally:
            self.seconds[name] += self._clock() - start

    def milliseconds_per(self, count: int) -> dict[str, float]:
        """Return the mean milliseconds of each stage over `count` frames."""
        return {name: 1000 * seconds / max(count, 1) for name, seconds in self.seconds.items()}


class RunReport:
    """Collects the statistics printed in the closing summary line.

    Args:
        started: Time at which the program began, on the scale of `clock`.
        clock: Returns seconds; monotonic.

    Attributes:
        frames: Events counted so far.
    """

    def __init__(self, started: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._started = started
        self._clock = clock
        self._first: float | None = None
        self._begin: dict[str, float] = {}
        self._highest_id: dict[str, int] = {}
        self.frames = 0

    def add(self, event: EmotionEvent) -> None:
        """Count an event."""
        if self._first is None:
            self._first = self._clock()
        self.frames += 1
        # The ids of a source count up from 1, so the highest is the number of persons; a set of ids would
        # grow.
        ids = [self._highest_id.get(event.source, 0), *(person.id for person in event.persons)]
        self._highest_id[event.source] = max(ids)

    def media_seconds(self, event: EmotionEvent) -> float:
        """Return the media time of an event, counted from the first event of its source."""
        return event.t - self._begin.setdefault(event.source, event.t)

    def line(self, timer: StageTimer, backend: str) -> str:
        """Return the summary in one line."""
        end = self._clock()
        if self._first is None:
            return f"no frames in {end - self._started:.1f} s"
        # Counted from the first event on: the start-up time is reported separately.
        spent = end - self._first
        rate = f"{(self.frames - 1) / spent:.1f} fps" if self.frames > 1 and spent > 0 else "one frame"
        persons = sum(self._highest_id.values())
        stages = ", ".join(f"{name} {ms:.1f}" for name, ms in timer.milliseconds_per(self.frames).items())
        return (
            f"{self.frames} frames in {end - self._started:.1f} s, first event after "
            f"{self._first - self._started:.2f} s, then {rate}; {persons} person{'s' * (persons != 1)}; "
            f"ms per frame: {stages}; {backend}"
        )
