"""Live sources: a connection that is lost is opened again, and nothing that hangs holds up the others."""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime, timezone

from emotion_runtime.errors import ConnectionLost, EmotionError
from emotion_runtime.sources.polled import LOOK, PolledSource
from emotion_runtime.sources.shots import Connect, Shot
from emotion_runtime.types import Frame, SourceStatus, StatusLine

_log = logging.getLogger(__name__)

_SLOW = ("authentication", "permission", "not found", "format")  # causes that do not pass by themselves
_KEPT_STATUSES = 1000  # of a source whose statuses nobody takes


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """Times of a live source, in seconds.

    Attributes:
        opening: From opening to the first image.
        silence: Without an image, after which the source counts as lost.
        stale: Age at which a frame that was not taken is no longer analysed.
        retry: The first wait before a lost source is opened again; it doubles with each attempt.
        retry_most: The longest of these waits.
        slow_retry: The same after a cause that does not pass by itself, such as a wrong password.
        slow_retry_most: The longest of these.
        steady: A connection of this length starts the waits anew.
        join: Wait for the thread of a connection that ends, before it is left behind.
        hanging: Number of threads that may hang before the source is not opened any more.
    """

    opening: float = 15.0
    silence: float = 5.0
    stale: float = 1.0
    retry: float = 0.1
    retry_most: float = 2.0
    slow_retry: float = 5.0
    slow_retry_most: float = 60.0
    steady: float = 5.0
    join: float = 0.2
    hanging: int = 4


@dataclass(slots=True, eq=False)
class _Connection:
    """One opening of a source. What a connection delivers after its end counts for nothing."""

    opened: float
    cancel: threading.Event = field(default_factory=threading.Event)
    latest: float | None = None  # arrival of the latest image
    delay: float = float("inf")  # the shortest time from capture to arrival so far
    over: bool = False
    error: ConnectionLost | None = None


class LiveSource(PolledSource):
    """A camera or stream. It is opened again when it is lost, as often as necessary.

    A thread watches over the deadlines; each connection has a thread of its own, which is left behind if a
    library hangs. Changes of the status are logged, too.

    Args:
        name: Name of the source, which appears in messages.
        connect: Opens the source.
        limits: Times.
        stop: Ends the source. None: only the method `stop` does.
    """

    def __init__(
        self,
        name: str,
        connect: Connect,
        limits: LiveLimits | None = None,
        *,
        stop: threading.Event | None = None,
    ) -> None:
        super().__init__(name, stop)
        self._connect = connect
        self._limits = limits or LiveLimits()
        self._wake = threading.Condition(self._lock)  # for the thread that watches
        self._connection: _Connection | None = None
        self._paused = False
        self._statuses: deque[StatusLine] = deque(maxlen=_KEPT_STATUSES)
        self._status: tuple[SourceStatus, str | None] = ("ended", None)
        self._hanging: list[threading.Thread] = []
        self._count = 0
        self._start_time: float | None = None
        self._captured = self._t = 0.0
        self._note("connecting")
        self._start(self._run)

    @property
    def status(self) -> SourceStatus:
        """The latest status."""
        return self._status[0]

    @property
    def reason(self) -> str | None:
        """What happened, in words; None: nothing that needs a reason."""
        return self._status[1]

    def take_statuses(self) -> list[StatusLine]:
        """Return the changes of the status since the last call."""
        with self._lock:
            taken = list(self._statuses)
            self._statuses.clear()
        return taken

    def poll(self) -> Frame | None:
        """Return the newest frame that was not taken yet, without waiting; None if there is none now.

        A frame that is stale counts as dropped.
        """
        frame = super().poll()
        if frame is None or frame.captured is None:
            return frame
        connection = self._connection
        usual = connection.delay if connection is not None else 0.0
        if time.monotonic() - frame.captured - usual <= self._limits.stale:
            return frame
        with self._lock:
            self._dropped += 1
        return None

    def pause(self) -> None:
        """Release the device or connection until `resume` is called."""
        with self._lock:
            self._paused = True
            self._wake.notify_all()

    def resume(self) -> None:
        """Open the source again after `pause`."""
        with self._lock:
            self._paused = False
            self._wake.notify_all()

    def _run(self) -> None:
        """Open the source again and again; runs in the thread of the source."""
        try:
            attempt, cause = 0, ""
            while not self._stop.is_set():
                if self._paused:
                    self._note("paused")
                    self._wait(lambda: not self._paused)
                    attempt = 0
                    self._note("connecting")
                elif self._may_open():
                    lost, lasted = self._one_connection()
                    if lost is None:
                        continue
                    self._note("lost", str(lost))
                    attempt = 0 if lasted >= self._limits.steady or lost.cause != cause else attempt + 1
                    cause = lost.cause
                    self._wait(lambda: self._paused, self._delay(attempt, slow=cause in _SLOW))
                else:
                    self._note("lost", f"{len(self._hanging)} attempts to open it hang; restart the program")
                    self._wait(lambda: self._paused, self._limits.retry_most)
        finally:
            self._end()

    def _one_connection(self) -> tuple[ConnectionLost | None, float]:
        """Open the source, and wait until the connection ends.

        Returns:
            Why it ended, or None if it was not lost but stopped or paused; and how long it delivered images,
            in seconds.
        """
        connection = _Connection(time.monotonic())
        thread = threading.Thread(
            target=self._capture, args=(connection,), name=f"capture {self.name}", daemon=True
        )
        with self._lock:
            self._connection = connection
        thread.start()
        lost = self._watch(connection)
        with self._lock:
            self._connection = None
        connection.cancel.set()
        thread.join(self._limits.join)
        if thread.is_alive():
            self._hanging.append(thread)
        return lost, 0.0 if connection.latest is None else connection.latest - connection.opened

    def _watch(self, connection: _Connection) -> ConnectionLost | None:
        """Wait until a connection ends or a deadline passes; return why, None if the source is stopped."""
        limits = self._limits
        with self._lock:
            while not (self._stop.is_set() or self._paused):
                if connection.over:
                    return connection.error or ConnectionLost(
                        "the stream ended; check that the device or server runs", "ended"
                    )
                if connection.latest is None:
                    left = connection.opened + limits.opening - time.monotonic()
                    message = f"no image {limits.opening:g} s after opening; check that it delivers video"
                else:
                    left = connection.latest + limits.silence - time.monotonic()
                    message = f"no image for {limits.silence:g} s; check its cable and its network"
                if left <= 0:
                    return ConnectionLost(message, "time-out")
                self._wake.wait(min(left, LOOK))
        return None

    def _capture(self, connection: _Connection) -> None:
        """Deliver the images of one connection; runs in a thread of its own."""
        error: ConnectionLost | None = None
        try:
            shots = self._connect(connection.cancel)
            try:
                for shot in shots:
                    if not self._accept(connection, shot):
                        break
            finally:
                _close(shots)
        except ConnectionLost as caught:
            error = caught
        except Exception as caught:  # noqa: BLE001 - whatever a library raises ends one connection only
            error = _unexpected(caught)
        with self._lock:
            connection.over, connection.error = True, error
            self._wake.notify_all()

    def _accept(self, connection: _Connection, shot: Shot) -> bool:
        """Make an image the newest frame; return False if the connection is not the current one any more."""
        with self._lock:
            if self._connection is not connection or connection.cancel.is_set():
                return False
            now = time.monotonic()
            connection.latest = now
            captured = min(shot.captured, now)
            if captured < self._captured - 1:  # its clock jumped back
                captured = now
            connection.delay = min(connection.delay, now - captured)
            if self._start_time is None:
                self._start_time = captured
            self._captured = captured
            # Frames of one source never go back in time, also if a clock does by a little.
            self._t = max(captured - self._start_time, self._t + 1e-3 if self._count else 0.0)
            frame = Frame(shot.image, self._count, self._t, self.name, captured=captured, time=shot.time)
            self._count += 1
        self._note("live")
        self._put(frame)
        return True

    def _may_open(self) -> bool:
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        return len(self._hanging) < self._limits.hanging

    def _delay(self, attempt: int, *, slow: bool) -> float:
        """Return how long to wait before the source is opened again, in seconds."""
        limits = self._limits
        first, most = (
            (limits.slow_retry, limits.slow_retry_most) if slow else (limits.retry, limits.retry_most)
        )
        # Cameras that were lost together do not come back all at the same time.
        return min(first * 2.0 ** min(attempt, 20), most) * random.uniform(0.8, 1.2)  # noqa: S311

    def _wait(self, condition: Callable[[], bool], seconds: float = float("inf")) -> None:
        """Wait until a condition holds, the time is over, or the source is stopped."""
        deadline = time.monotonic() + seconds
        with self._lock:
            while not (condition() or self._stop.is_set()):
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                self._wake.wait(min(left, LOOK))

    def _note(self, status: SourceStatus, reason: str | None = None) -> None:
        """Change the status, if it is another one."""
        with self._lock:
            if self._status == (status, reason):
                return
            self._status = status, reason
            self._statuses.append(
                StatusLine(source=self.name, time=datetime.now(timezone.utc), status=status, reason=reason)
            )
        level = logging.INFO if reason is None else logging.WARNING
        _log.log(level, "source %s: %s%s", self.name, status, f": {reason}" if reason else "")
        self._changed()


def _close(shots: Generator[Shot, None, None]) -> None:
    close = getattr(shots, "close", None)
    if close is not None:
        close()


def _unexpected(error: Exception) -> ConnectionLost:
    """Describe an error of a library; only its kind, since messages of libraries hold URIs with passwords."""
    if isinstance(error, EmotionError):
        return ConnectionLost(str(error), "device")
    if isinstance(error, OSError) and error.strerror:
        return ConnectionLost(f"{error.strerror}; check that it is connected", "connection")
    return ConnectionLost(f"it failed with {type(error).__name__}; opening it again", "device")
