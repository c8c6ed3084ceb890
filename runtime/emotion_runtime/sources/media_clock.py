"""When the images of a stream were captured, and when those that arrive in bursts are due."""

import time
from datetime import datetime, timedelta, timezone
from threading import Event

_JUMP = 10.0  # seconds: a change of the media time beyond this is a new clock, not a delay
_LATE = 1.0  # seconds that an image may be late
_LATE_FOR = 10.0  # seconds: a stream that is late for so long has wrong media times
_DRIFT = 0.001  # seconds per second by which the clock of a camera may be slower than ours
_TRUSTED = 1.0  # seconds from capture to arrival that a camera's wall clock may claim


class MediaClock:
    """Finds the time of capture from the times of arrival and the media times of a stream.

    The image that travelled fastest sets the relation of the two clocks; any other is as much older than its
    arrival as it is late by its media time. So an image that a stalled network or library delivers late is
    known to be old. Times of capture are never later than the arrival, and never go back.
    """

    def __init__(self) -> None:
        self._offset: float | None = None  # from media time to `time.monotonic()`
        self._previous = 0.0  # arrival of the previous image
        self._late_since: float | None = None
        self._latest = float("-inf")  # time of capture

    def captured(self, media: float | None, arrival: float, wall_start: float | None = None) -> float:
        """Return the time of capture on the scale of `time.monotonic()`, in seconds.

        Args:
            media: Media time of the image in seconds; None: not known.
            arrival: Time of arrival, on the scale of `time.monotonic()`.
            wall_start: What the camera states as wall-clock time of media time 0, in seconds since 1970. Used
                if it is plausible; clocks of cameras are often wrong.
        """
        if media is None:
            return arrival
        offset = arrival - media
        drift = _DRIFT * (arrival - self._previous)
        self._previous = arrival
        if self._offset is None or not -_JUMP <= offset - self._offset <= _JUMP:
            self._offset = offset
        self._offset = min(self._offset + drift, offset)
        if offset - self._offset <= _LATE:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = arrival
        elif arrival - self._late_since > _LATE_FOR:
            self._offset, self._late_since = offset, None
        travel = 0.0
        if wall_start is not None:
            claimed = self._offset - (wall_start - (time.time() - time.monotonic()))
            travel = claimed if 0 <= claimed <= _TRUSTED else 0.0
        self._latest = max(self._latest, media + self._offset - travel)
        return self._latest


class Pacer:
    """Lets images that arrive in bursts pass at the pace of their media times."""

    def __init__(self) -> None:
        self._offset: float | None = None

    def wait(self, media: float | None, cancel: Event) -> float:
        """Wait until an image is due, and return the time then, on the scale of `time.monotonic()`.

        Args:
            media: Media time of the image in seconds; None: it is due now.
            cancel: Ends the wait.
        """
        now = time.monotonic()
        if media is not None:
            if self._offset is None or not -_LATE <= media + self._offset - now <= _LATE:
                self._offset = now - media  # the first image, a jump of the media time, or a long gap
            cancel.wait(max(0.0, media + self._offset - now))
        return time.monotonic()


def wall_clock(captured: float) -> datetime:
    """Return a time on the scale of `time.monotonic()` as wall-clock time, in UTC."""
    return datetime.now(timezone.utc) - timedelta(seconds=time.monotonic() - captured)
