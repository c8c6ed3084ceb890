"""Measure the time of each stage, and summarise a run."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from emotion_runtime.tracker import CONFIRM_FRAMES
from emotion_runtime.types import EmotionEvent, Person

# In processing order. "read" is decoding time for a file, and mostly waiting for a camera.
STAGES = ("read", "detect", "track", "heads", "crop", "encode", "temporal", "sinks")

MAX_PHOTOS = 100
_SHORTEST = 0.05  # milliseconds per frame; shorter stages are not printed


@dataclass(slots=True)
class Counts:
    """What happened so far, over all sources.

    Attributes:
        frames: Frames processed.
        frames_with_persons: Frames in which somebody was found.
        cuts: Scene cuts.
        swaps: Times at which another person was taken to be in the place of one.
        invalid: Detections, embeddings and predictions that were left out because they were not finite.
    """

    frames: int = 0
    frames_with_persons: int = 0
    cuts: int = 0
    swaps: int = 0
    invalid: int = 0


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
    """Collects what is printed at the end of a run, apart from the summary of the people.

    Args:
        started: Time at which the program began, on the scale of `clock`.
        clock: Returns seconds; monotonic.

    Attributes:
        frames: Events counted so far.
        found: Whether anybody was found.
        photos: The people in each photo, by its name; at most `MAX_PHOTOS`.
        more_photos: Number of photos beyond these.
    """

    def __init__(self, started: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._started = started
        self._clock = clock
        self._first: float | None = None
        self.frames = 0
        self.found = False
        self.photos: dict[str, list[Person]] = {}
        self.more_photos = 0

    def add(self, event: EmotionEvent, *, still: bool = False) -> None:
        """Count an event; `still`: of a photo."""
        if self._first is None:
            self._first = self._clock()
        self.frames += 1
        # Who is "new" is mostly a false detection, but in the first frames everybody is.
        self.found |= any(person.state != "new" or self.frames < CONFIRM_FRAMES for person in event.persons)
        if still and len(self.photos) < MAX_PHOTOS:
            self.photos[event.source] = event.persons
        else:
            self.more_photos += still

    def line(self, timer: StageTimer, backend: str) -> str:
        """Return the time spent, in one line."""
        end = self._clock()
        if self._first is None:
            return f"no frames in {end - self._started:.1f} s"
        # Counted from the first event on: the start-up time is reported separately.
        spent = end - self._first
        rate = f", then {(self.frames - 1) / spent:.1f} fps" if self.frames > 1 and spent > 0 else ""
        means = timer.milliseconds_per(self.frames)
        stages = ", ".join(f"{name} {ms:.1f}" for name, ms in means.items() if ms >= _SHORTEST)
        return (
            f"{self.frames} {'frame' if self.frames == 1 else 'frames'} in {end - self._started:.1f} s "
            f"(first after {self._first - self._started:.1f} s{rate}); ms per frame: {stages}; {backend}"
        )
