"""How long each stage takes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from emotion_runtime.types import EmotionEvent

# In the order a frame goes through them. "read" is decoding for a file, mostly waiting for a camera.
STAGES = ("read", "detect", "track", "crop", "encode", "temporal", "sinks")


class StageTimer:
    """Adds up wall-clock time by stage. clock: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block towards `name`, one of STAGES, also when it raises."""
        start = self._clock()
        try:
            yield
        finally:
            self.seconds[name] += self._clock() - start

    def milliseconds_per(self, count: int) -> dict[str, float]:
        """Mean milliseconds of each stage over `count` frames."""
        return {name: 1000 * seconds / max(count, 1) for name, seconds in self.seconds.items()}


class RunReport:
    """What a run came to, for the one line at its end.

    started: moment the program began, on `clock`'s scale.
    """

    def __init__(self, started: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._started = started
        self._clock = clock
        self._first: float | None = None
        self._begin: dict[str, float] = {}
        self._highest_id: dict[str, int] = {}
        self.frames = 0

    def add(self, event: EmotionEvent) -> None:
        """Count an event that was made."""
        if self._first is None:
            self._first = self._clock()
        self.frames += 1
        # Ids of a source count up from 1, so the highest is the number of persons; a set of them would grow.
        ids = [self._highest_id.get(event.source, 0), *(person.id for person in event.persons)]
        self._highest_id[event.source] = max(ids)

    def media_seconds(self, event: EmotionEvent) -> float:
        """Media time of an event since the first one of its source."""
        return event.t - self._begin.setdefault(event.source, event.t)

    def line(self, timer: StageTimer, backend: str) -> str:
        """The summary, in one line."""
        end = self._clock()
        if self._first is None:
            return f"no frames in {end - self._started:.1f} s"
        # Of the time from the first event on: start-up has its own figure.
        spent = end - self._first
        rate = f"{(self.frames - 1) / spent:.1f} fps" if self.frames > 1 and spent > 0 else "one frame"
        persons = sum(self._highest_id.values())
        stages = ", ".join(f"{name} {ms:.1f}" for name, ms in timer.milliseconds_per(self.frames).items())
        return (
            f"{self.frames} frames in {end - self._started:.1f} s, first event after "
            f"{self._first - self._started:.2f} s, then {rate}; {persons} person{'s' * (persons != 1)}; "
            f"ms a frame: {stages}; {backend}"
        )
