"""Live sources: a connection that is lost is opened again, and one that hangs holds up nobody."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing

from emotion_runtime.errors import ConnectionLost
from emotion_runtime.sources.connection import Connection, explained_end
from emotion_runtime.sources.frame_maker import FrameMaker
from emotion_runtime.sources.live_limits import LiveLimits
from emotion_runtime.sources.polled import LOOK, PolledSource
from emotion_runtime.sources.shots import Connect, Shot
from emotion_runtime.sources.statuses import StatusRecord
from emotion_runtime.sources.watch import ImageWatch, RateWatch
from emotion_runtime.types import Frame, SourceStatus, StatusLine

_MINUTE = 60.0


class LiveSource(PolledSource):
    """A camera or stream. It is opened again when it is lost, as often as necessary.

    One thread watches over the deadlines; each connection has a thread of its own, which is left behind if a
    library hangs. While images are frozen, there are no frames. Changes of the status are logged.

    Args:
        name: Name of the source, which appears in messages.
        connect: Opens the source.
        limits: Times. None: the defaults.
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
        self._connection: Connection | None = None
        self._paused = False
        self._maker = FrameMaker(name)
        self._images = ImageWatch(self._limits.frozen)
        self._rate = RateWatch()
        self._record = StatusRecord(name)
        self._losses: deque[float] = deque(maxlen=self._limits.losses)
        self._hanging: list[threading.Thread] = []
        self._most_hanging = 0
        self._record.change("connecting")
        self._start(self._run)

    @property
    def status(self) -> SourceStatus | None:
        """The latest status."""
        return self._record.status

    @property
    def reason(self) -> str | None:
        """Why the source has this status, in words; None: nothing that needs a reason."""
        return self._record.reason

    def take_statuses(self) -> list[StatusLine]:
        """Return the changes of the status since the last call."""
        return self._record.take()

    def poll(self) -> Frame | None:
        """Return the newest frame that was not taken yet, without waiting; None if there is none now.

        A stale frame counts as dropped.
        """
        with self._lock:
            frame = self._newest
            limit = max(self._limits.stale, 2 * self._maker.interval)
            if frame is not None and self._maker.age(frame, time.monotonic()) > limit:
                self._newest = None
                self._dropped += 1
        return super().poll()

    def pause(self) -> None:
        """Release the device or connection until `resume` is called."""
        self._set_paused(to=True)

    def resume(self) -> None:
        """Open the source again after `pause`."""
        self._set_paused(to=False)

    def close(self) -> None:
        """Release the device or connection, within a second even if it hangs; safe to call twice."""
        self.stop()
        with self._lock:
            self._wake.notify_all()
        super().close()

    def _set_paused(self, *, to: bool) -> None:
        with self._lock:
            self._paused = to
            self._wake.notify_all()

    # --- the thread that opens the source again and watches over the deadlines ---

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._open_again_and_again()
        except Exception as caught:  # noqa: BLE001 - raised again in the consumer's thread
            error = caught
        finally:
            with self._lock:
                self._end(error)
            self._changed()

    def _open_again_and_again(self) -> None:
        attempt, slow = 0, False
        while not self._stop.is_set():
            if self._paused:
                self._change("paused")
                self._wait(lambda: not self._paused)
                self._change("connecting")
                attempt = 0
                continue
            lost, steady = self._one_connection()
            if lost is None:
                continue
            if lost.final:
                self._change("ended", str(lost))
                return
            arrived = self._maker.arrived
            since = None if arrived is None else time.monotonic() - arrived
            before, slow = slow, self._limits.is_slow(lost.cause, since)
            attempt = 0 if steady or slow != before else attempt + 1
            self._change(*self._loss(str(lost)))
            self._wait(lambda: self._paused, self._limits.wait(attempt, slow=slow))

    def _one_connection(self) -> tuple[ConnectionLost | None, bool]:
        """Open the source, and wait until the connection ends.

        Returns:
            Why it ended, None if it was not lost but stopped or paused; and whether it was a steady one.
        """
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        if len(self._hanging) >= self._limits.hanging:
            many = f"{len(self._hanging)} attempts to open it hang; disconnect it, or restart the program"
            return ConnectionLost(many, "time-out"), False
        connection = Connection(time.monotonic())
        thread = threading.Thread(
            target=self._capture, args=(connection,), name=f"capture {self.name}", daemon=True
        )
        with self._lock:
            self._connection = connection
            self._maker.reconnect()
            self._images.restart()
            self._rate.restart()
        try:
            thread.start()
        except RuntimeError:  # a limit of the system, which may be over later
            return ConnectionLost("no more threads can be started; end other programs", "device"), False
        lost = self._watch(connection)
        with self._lock:
            self._connection = None
            if lost is None:
                self._newest = None
        connection.cancel.set()
        thread.join(self._limits.join)
        if thread.is_alive():
            self._leave_behind(thread, hangs=lost is not None)
        latest = connection.latest
        return lost, latest is not None and latest - connection.opened >= self._limits.steady

    def _leave_behind(self, thread: threading.Thread, *, hangs: bool) -> None:
        """Go on without the thread of a connection that does not end.

        Args:
            thread: The thread.
            hangs: It had the time to end: say so, but not again for each attempt to open the source.
        """
        self._hanging.append(thread)
        count = len(self._hanging)
        if hangs and count > self._most_hanging:
            self._most_hanging = count
            text = "source %s: a library hangs: its thread is left behind; %d of at most %d"
            logging.getLogger(__name__).warning(text, self.name, count, self._limits.hanging)

    def _watch(self, connection: Connection) -> ConnectionLost | None:
        """Wait until a connection ends or a deadline passes; return why, None if stopped or paused."""
        with self._lock:
            while not (self._stop.is_set() or self._paused):
                if connection.over:
                    ended = "the stream ended; check that the device or server still runs"
                    return connection.error or ConnectionLost(ended, "ended")
                deadline, message = connection.deadline(self._limits, self._maker.interval)
                left = deadline - time.monotonic()
                if left <= 0:
                    return ConnectionLost(message, "time-out")
                self._wake.wait(min(left, LOOK))
        return None

    def _loss(self, reason: str) -> tuple[SourceStatus, str]:
        """Return the status after a loss; one that comes back each time, but not for long, is degraded."""
        now = time.monotonic()
        flaps = self._flaps(now)
        self._losses.append(now)
        arrived = self._maker.arrived
        if flaps and arrived is not None and now - arrived < self._limits.silence:
            return "degraded", f"its connection is lost again and again: {reason}"
        return "lost", reason

    def _flaps(self, now: float) -> bool:
        return len(self._losses) == self._limits.losses and now - self._losses[0] < _MINUTE

    def _wait(self, condition: Callable[[], bool], seconds: float = float("inf")) -> None:
        """Wait until a condition holds, the time is over, or the source is stopped."""
        deadline = time.monotonic() + seconds
        with self._lock:
            while not (condition() or self._stop.is_set()):
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                self._wake.wait(min(left, LOOK))

    def _change(self, status: SourceStatus, reason: str | None = None) -> None:
        if self._record.change(status, reason):
            self._changed()

    # --- the thread of a connection ---

    def _capture(self, connection: Connection) -> None:
        error: ConnectionLost | None = None
        try:
            with closing(self._connect(connection.cancel)) as shots:
                for shot in shots:
                    if not self._accept(connection, shot):
                        break
        except Exception as caught:  # noqa: BLE001 - whatever a library raises ends one connection only
            # Its traceback would keep the decoder and its threads until the next loss.
            error = explained_end(caught).with_traceback(None)
        with self._lock:
            connection.over, connection.error = True, error
            self._wake.notify_all()

    def _accept(self, connection: Connection, shot: Shot) -> bool:
        """Make an image the newest frame; return False if the connection is not the current one any more."""
        with self._lock:
            if self._connection is not connection:
                return False
            now = time.monotonic()
            connection.latest, connection.next_in = now, shot.next_in
            frame = self._maker.make(shot, now)
            status, reason = self._judge(shot, now)
            if status == "frozen":
                self._dropped += 1
            else:
                self._put(frame)
            # Before the connection can end: "live" must not follow on the status after that.
            self._record.change(status, reason)
        self._changed()
        return True

    def _judge(self, shot: Shot, now: float) -> tuple[SourceStatus, str | None]:
        """Return the status of a source that delivers this image."""
        fault = self._images.look(shot.image, now)
        slow = self._rate.count(now)
        if fault == "frozen":
            return "frozen", f"the same image for {self._limits.frozen:g} s; restart the device"
        if fault == "black":
            return "degraded", "the image is black; check its cover, its light and its exposure"
        if slow:
            return "degraded", slow
        if self.status == "degraded" and self._flaps(now):
            return "degraded", self.reason
        return "live", None
