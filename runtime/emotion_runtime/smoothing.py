"""Smooth the values shown for a person over time, and keep the shown label from flickering.

Events carry the raw probabilities beside the smoothed ones, for users who prefer another filter.
"""

import math

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.defaults import HYSTERESIS, SMOOTHING
from emotion_runtime.errors import EmotionError

_MARGIN_LABELS = 7  # up to this number of labels, the margin of the shown label is used as given
_APPEAR = 0.25  # fraction of that margin by which a label must exceed the threshold to appear


class ExponentialAverage:
    """Exponential moving average of one person's values, by time instead of by frame.

    The result is the same at 5 and at 50 updates a second, and correct when updates are uneven.

    Args:
        time_constant: Seconds after which 63 % of a step is shown; 0 turns smoothing off.

    Raises:
        EmotionError: The time constant is negative or not finite.
    """

    def __init__(self, time_constant: float = SMOOTHING) -> None:
        if not 0 <= time_constant < math.inf:
            raise EmotionError(f"smoothing {time_constant}: expected seconds, 0 (off) or more")
        self._time_constant = time_constant
        self._average: NDArray[np.float64] | None = None
        self._t = -math.inf

    def update(self, values: NDArray[np.float64], t: float) -> NDArray[np.float64]:
        """Return the average (C,) after the values (C,) of time t, in seconds.

        It is a convex combination, so probabilities still sum to 1. A step back in time starts over.
        """
        if self._average is None or t < self._t:
            self._average = values
        else:
            self._average = values + self._weight_of_past(t - self._t) * (self._average - values)
        self._t = t
        return self._average

    def _weight_of_past(self, elapsed: float) -> float:
        return math.exp(-elapsed / self._time_constant) if self._time_constant else 0.0


class LabelHysteresis:
    """The label shown for one person: it changes only when another one leads clearly.

    A held label that falls below chance (1 / number of labels) or below the threshold is replaced by the most
    probable one without a margin.

    Args:
        margin: By how much another probability must exceed that of the held label to replace it, in [0, 1).
            It is smaller where probabilities are: with C > 7 labels by 7 / C, and below one half in
            proportion.
        abstain: No label is shown while its probability is below this threshold. So that it does not flicker,
            a label appears only a quarter of the margin above.

    Attributes:
        held: Index of the held label; None before the first update.

    Raises:
        EmotionError: The margin is out of range.
    """

    def __init__(self, margin: float = HYSTERESIS, *, abstain: float = 0.0) -> None:
        if not 0 <= margin < 1:
            raise EmotionError(f"hysteresis {margin}: expected a difference of probabilities in [0, 1)")
        self._margin = margin
        self._abstain = abstain
        self._shown = False
        self._t = -math.inf
        self.held: int | None = None

    @property
    def label(self) -> int | None:
        """Index of the label to show; None if no label is probable enough."""
        return self.held if self._shown else None

    def update(self, probabilities: NDArray[np.float64], t: float) -> int | None:
        """Return `label` after the probabilities (C,) of time t, in seconds. A step back starts over."""
        if t < self._t:
            self.held, self._shown = None, False
        self._t = t
        margin = self._margin * min(1.0, _MARGIN_LABELS / len(probabilities), 2 * float(probabilities.max()))
        self.held = self._choose(probabilities, margin)
        threshold = self._abstain
        if not self._shown and threshold > 0:
            threshold += _APPEAR * margin
        self._shown = bool(probabilities[self.held] >= threshold)
        return self.label

    def _choose(self, probabilities: NDArray[np.float64], margin: float) -> int:
        best = int(probabilities.argmax())
        if self.held is None:
            return best
        lead = probabilities[best] - probabilities[self.held]
        too_low = probabilities[self.held] < max(1 / len(probabilities), self._abstain)
        return best if lead > margin or (too_low and lead > 0) else self.held
