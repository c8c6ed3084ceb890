"""Measure the time between the frames of one source."""

import math
import statistics
from collections import deque

_REMEMBERED = 5


class Intervals:
    """The usual time between two frames of a source: the median of the latest ones, whatever one gap is.

    Attributes:
        last: Time of the latest frame, in seconds. Minus infinity: there was none.
    """

    def __init__(self) -> None:
        self.last = -math.inf
        self._latest: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def known(self) -> bool:
        """Whether there are enough intervals to tell the usual one from a gap."""
        return len(self._latest) == _REMEMBERED

    @property
    def usual(self) -> float:
        """Median of the latest intervals, in seconds; 0 until there is one."""
        return statistics.median(self._latest) if self._latest else 0.0

    def add(self, t: float) -> float:
        """Count a frame at time t, in seconds; return the time since the one before it, 0 at the first."""
        elapsed = t - self.last if math.isfinite(self.last) else 0.0
        self.last = t
        if elapsed > 0:
            self._latest.append(elapsed)
        return max(elapsed, 0.0)
