"""Probabilities steadied over time, so that what people read does not blink.

Raw probabilities are published beside: whoever wants another filter has them.
"""

import math

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.defaults import HYSTERESIS, SMOOTHING
from emotion_runtime.errors import EmotionError


class Smoother:
    """Exponential smoothing of one person's probabilities, and a top label with hysteresis.

    time_constant: seconds after which 63 % of a step is shown; 0 turns smoothing off. By time, not by frame:
    the same at 5 and at 50 updates a second, and right when updates are uneven.
    margin: by how much another probability must exceed the held label's to replace it. A held label that fell
    under chance (1 / number of labels) is replaced by the likeliest without a margin.
    abstain: a label is given from this probability on and taken back a margin below, so that `label` does
    not blink either.
    """

    def __init__(
        self, *, time_constant: float = SMOOTHING, margin: float = HYSTERESIS, abstain: float = 0.0
    ) -> None:
        if not 0 <= time_constant < math.inf:
            raise EmotionError(f"smoothing {time_constant}: expected seconds, 0 (off) or more")
        if not 0 <= margin < 1:
            raise EmotionError(f"hysteresis {margin}: expected a difference of probabilities in [0, 1)")
        self._time_constant = time_constant
        self._margin = margin
        self._abstain = abstain
        self._given = False
        self._smoothed: NDArray[np.float64] | None = None
        self._t = -math.inf
        self.top: int | None = None

    def update(self, probabilities: NDArray[np.float64], t: float) -> NDArray[np.float64]:
        """Take the probabilities (C,) of time t, seconds; return the smoothed ones (C,).

        A convex combination: what sums to 1 stays so. A step back in time starts over.
        """
        if self._smoothed is None or t < self._t:
            self._smoothed, self.top, self._given = probabilities, None, False
        else:
            self._smoothed = probabilities + self._kept(t - self._t) * (self._smoothed - probabilities)
        self._t = t
        self.top = self._held(self._smoothed)
        least = self._abstain - self._margin if self._given else self._abstain
        self._given = bool(self._smoothed[self.top] >= least)
        return self._smoothed

    @property
    def label(self) -> int | None:
        """The top label where it is likely enough to be said."""
        return self.top if self._given else None

    def _kept(self, elapsed: float) -> float:
        """Share of the past that is left after `elapsed` seconds."""
        return math.exp(-elapsed / self._time_constant) if self._time_constant else 0.0

    def _held(self, smoothed: NDArray[np.float64]) -> int:
        best = int(smoothed.argmax())
        if self.top is None:
            return best
        lead = smoothed[best] - smoothed[self.top]
        dropped = smoothed[self.top] < 1 / len(smoothed)
        return best if lead > self._margin or (dropped and lead > 0) else self.top
