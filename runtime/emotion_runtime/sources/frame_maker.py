"""Number the images of a live source, over all its connections, and give them times that never go back."""

import math

from emotion_runtime.sources.shots import Shot
from emotion_runtime.types import Frame

_BACKWARDS = 1.0  # seconds by which a clock may go back before its times are no longer believed
_OLDEST = 60.0  # seconds from capture to arrival that are believed
_STEP = 1e-3  # seconds between two frames at least
_SMOOTH = 0.1  # weight of the latest interval in the usual one


class FrameMaker:
    """Makes frames from the images of one source.

    Args:
        name: Name of the source.

    Attributes:
        interval: Usual time between two images, in seconds; 0: not known yet.
        arrived: When the latest image arrived; None: none did.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._index = -1
        self._t = 0.0
        self._first = 0.0  # `captured` of the first frame
        self._captured = -math.inf  # of the latest one
        self._delay = 0.0  # the shortest time from capture to arrival in this connection
        self._connected = False
        self.interval = 0.0
        self.arrived: float | None = None

    def reconnect(self) -> None:
        """Begin a new connection, whose clock may be another one."""
        self._connected = False

    def make(self, shot: Shot, now: float) -> Frame:
        """Return the frame of an image that arrives now, in seconds of `time.monotonic()`."""
        captured = min(shot.captured, now)
        # Its clock is wrong, was set back, or gives no number.
        if not captured >= max(self._captured - _BACKWARDS, now - _OLDEST):
            captured = now
        delay = now - captured
        if self._connected and self.arrived is not None:
            self._delay = min(self._delay, delay)
            weight = _SMOOTH if self.interval else 1.0
            self.interval += weight * (now - self.arrived - self.interval)
        else:
            self._delay = delay
        if self._index < 0:
            self._first = captured
        else:
            self._t = max(captured - self._first, self._t + _STEP)
        self._index += 1
        self._captured, self.arrived, self._connected = captured, now, True
        return Frame(shot.image, self._index, self._t, self._name, captured=captured, time=shot.time)

    def age(self, frame: Frame, now: float) -> float:
        """Return how much older a frame is than one that just arrived, in seconds.

        A stream can be late at all times: by its network, or because its clock and ours differ.
        """
        return now - (frame.captured or 0.0) - self._delay
