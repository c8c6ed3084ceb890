"""Choose who is encoded in a frame: people are spread over the frames, and share the time if it is short."""

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


def deadline(latest: float, appeared: float, *, every: float, soon: float | None) -> float:
    """Return the time by which a person should be encoded; the earliest is the most urgent.

    Whoever was encoded comes again after `every`. A newcomer comes before all who are late by less than
    `every`, so that even a crowd of newcomers keeps nobody waiting for much longer than twice that time.

    Args:
        latest: Time of the latest encoding in seconds; minus infinity if there was none.
        appeared: Time at which the person appeared.
        every: Time between two encodings of a person for which the machine has time.
        soon: Less time after the latest encoding, for somebody who is more urgent than others. None: nobody.
    """
    if math.isinf(latest):
        return appeared - every
    return latest + (every if soon is None else soon)


class Share:
    """How many people of one source may be encoded in a frame if there is no time for all who are due.

    All sources get time in proportion to their people, however often their frames come.
    """

    def __init__(self) -> None:
        self._credit = 1.0

    def limit(self, people: int, elapsed: float, every: float) -> int:
        """Return how many people may be encoded in the next frame.

        Args:
            people: Number of people in view.
            elapsed: Seconds since the frame before.
            every: Time between two encodings of a person for which the machine has time, in seconds.
        """
        earned = people * elapsed / every
        self._credit = min(self._credit + earned, max(1.0, 2 * earned))
        return int(self._credit)

    def spend(self, people: int) -> None:
        """Count the people who were encoded."""
        self._credit -= people
