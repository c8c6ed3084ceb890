"""One opening of a live source: what it has delivered, until when it must deliver more, why it ended."""

import threading
from dataclasses import dataclass, field

from emotion_runtime.errors import ConnectionLost, EmotionError
from emotion_runtime.sources.live_limits import LiveLimits


@dataclass(slots=True, eq=False)
class Connection:
    """One opening of a live source. What it delivers after its end counts for nothing.

    Attributes:
        opened: When it was opened.
        cancel: Is set at its end.
        latest: When the latest image arrived. None: there was none.
        next_in: See `Shot`.
        over: It ended by itself.
        error: Why.
    """

    opened: float
    cancel: threading.Event = field(default_factory=threading.Event)
    latest: float | None = None
    next_in: float = 0.0
    over: bool = False
    error: ConnectionLost | None = None

    def deadline(self, limits: LiveLimits, interval: float) -> tuple[float, str]:
        """Return when the source is lost if no image arrives, and what is said then.

        Args:
            limits: Times.
            interval: Usual time between two images, in seconds.
        """
        if self.latest is None:
            seconds = max(limits.opening, limits.silence)
            return (
                self.opened + seconds,
                f"no image {seconds:g} s after opening; check that it delivers video",
            )
        seconds = max(limits.silence, 3 * interval) + self.next_in
        message = f"no image for {seconds:.3g} s; check its power, its cable and its network"
        return self.latest + seconds, message


def explained_end(error: Exception) -> ConnectionLost:
    """Return why a connection ended. Messages of libraries are left out: they hold URIs with passwords."""
    if isinstance(error, ConnectionLost):
        return error
    if isinstance(error, EmotionError):
        return ConnectionLost(str(error), "device")
    if isinstance(error, OSError) and error.strerror:
        return ConnectionLost(f"{error.strerror}; check that it is connected", "connection")
    return ConnectionLost(f"{type(error).__name__} while reading it; it is opened again", "device")
