"""Spread the encodings of many people over the frames, so that no frame takes much longer than the others."""

import math
from collections.abc import Sequence
from typing import TypeVar

Waiting = TypeVar("Waiting")

# Up to this many people are encoded in a frame even if they could be spread: so few take little time.
ALWAYS = 4
# Fraction of the mean number of encodings in a frame that the largest may have, so that late ones catch up.
_HEADROOM = 1.25


def capacity(people: int, interval: float, every: float) -> int:
    """Return how many people are encoded in one frame at most.

    Args:
        people: Number of people in view.
        interval: Usual time between two frames in seconds; 0 if it is not known, as at the first frame.
        every: Time between two encodings of a person in seconds.
    """
    if interval <= 0:
        return people
    return max(ALWAYS, math.ceil(_HEADROOM * people * min(interval / every, 1.0)))


def most_urgent(waiting: Sequence[tuple[tuple[float, ...], Waiting]], count: int) -> list[Waiting]:
    """Return the `count` most urgent of those who wait, in their given order.

    Args:
        waiting: Who waits, each with a key that is the lower the more urgent it is.
        count: How many to take.
    """
    if len(waiting) <= count:
        return [each for _, each in waiting]
    urgent = sorted(range(len(waiting)), key=lambda i: waiting[i][0])[:count]
    return [waiting[i][1] for i in sorted(urgent)]
