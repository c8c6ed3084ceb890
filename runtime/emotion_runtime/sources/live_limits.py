"""Times after which a live source is lost, and is opened again."""

import random
from dataclasses import dataclass

from emotion_runtime.defaults import FROZEN_AFTER, LOST_AFTER
from emotion_runtime.errors import Cause

# Causes that do not pass by themselves; a device that starts again may give the last three at first, though.
_SLOW: tuple[Cause, ...] = ("authentication", "permission", "not found", "format")


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """Times of a live source, in seconds.

    Attributes:
        opening: From opening to the first image; `silence`, if that is more.
        silence: Time without an image after which the source is lost. Three times the usual time between two
            images, if that is more.
        frozen: Time for which images are frozen or black before that is a status; 0: they are not watched.
        stale: A frame that is not taken for this time is no longer analysed. Twice the usual time between two
            images, if that is more.
        retry: The first and the longest wait before a lost source is opened again; it doubles in between.
        slow_retry: The same after a cause that does not pass by itself, such as a wrong password.
        recent: Time after an image in which only a wrong password counts as such a cause.
        steady: After a connection of this length the waits start anew.
        join: Time for a connection to end by itself; then its thread is left behind.
        hanging: Number of threads left behind and alive with which the source is not opened again.
        losses: Number of losses in a minute that make a source degraded.
    """

    opening: float = 15.0
    silence: float = LOST_AFTER
    frozen: float = FROZEN_AFTER
    stale: float = 1.0
    retry: tuple[float, float] = (0.1, 2.0)
    slow_retry: tuple[float, float] = (5.0, 60.0)
    recent: float = 60.0
    steady: float = 5.0
    join: float = 0.2
    hanging: int = 4
    losses: int = 12

    def is_slow(self, cause: Cause, since: float | None) -> bool:
        """Return whether trying again soon is of no use.

        Args:
            cause: Why the source was lost.
            since: Seconds since its latest image. None: there was none.
        """
        if cause == "authentication":  # some cameras lock the account after a few attempts
            return True
        return cause in _SLOW and (since is None or since > self.recent)

    def wait(self, attempt: int, *, slow: bool) -> float:
        """Return how long to wait before the source is opened again, in seconds.

        Args:
            attempt: Number of attempts before the latest one that failed in the same way.
            slow: It failed for a cause that does not pass by itself.
        """
        first, most = self.slow_retry if slow else self.retry
        # Cameras that were lost together do not come back all at the same time.
        return min(first * 2.0 ** min(attempt, 20), most) * random.uniform(0.75, 1.0)  # noqa: S311
