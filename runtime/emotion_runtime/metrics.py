"""How long each stage takes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StageTimer:
    """Adds up wall-clock time by stage. clock: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block towards `name`, also when it raises."""
        start = self._clock()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self._clock() - start

    def milliseconds_per(self, count: int) -> dict[str, float]:
        """Mean milliseconds of each stage over `count` frames, in the order the stages first came."""
        return {name: 1000 * seconds / max(count, 1) for name, seconds in self.seconds.items()}
