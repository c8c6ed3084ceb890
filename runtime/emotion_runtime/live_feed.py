"""A live source in a loop over several: its newest frame counts, and its status is told in order."""

from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Protocol

from emotion_runtime.feeds import Feed
from emotion_runtime.types import Frame, SourceStatus, StatusLine

_WORKING: tuple[SourceStatus, ...] = ("live", "degraded", "frozen", "paused")


class LiveFrames(Iterable[Frame], Protocol):
    """What the loop needs of a live source; `sources.open_source` returns such sources."""

    name: str
    live: bool
    error: Exception | None

    @property
    def over(self) -> bool:
        """Whether no frame will come any more."""
        ...

    def poll(self) -> Frame | None:
        """Return the newest frame that was not taken yet, without waiting; None if there is none now."""
        ...

    def take_statuses(self) -> list[StatusLine]:
        """Return the changes of the status since the last call."""
        ...

    def on_change(self, callback: Callable[[], None]) -> None:
        """Set what is called, in any thread, whenever there may be something new."""
        ...


class LiveFeed(Feed):
    """A source whose frames come at their own pace; the newest counts.

    Args:
        source: The source.
        seconds: Only so many seconds of it are wanted, whether frames come or not. None: all of it.
    """

    live = True

    def __init__(self, source: LiveFrames, seconds: float | None = None) -> None:
        super().__init__(source)
        self._seconds = seconds
        self._until = float("inf")
        self._held: list[StatusLine] = []  # changes that come after the waiting frame
        self._alive: StatusLine | None = None  # the latest status, apart from that of the regular end

    def begin(self, now: float) -> None:
        """Take note of the time at which the run begins, or the source is added to it."""
        if self._seconds is not None:
            self._until = min(self._until, now + self._seconds)

    def expired(self, now: float) -> bool:
        """Return whether no more of the source is wanted."""
        return now >= self._until

    def look(self, *, wait: bool, changed: Callable[[], None]) -> list[StatusLine]:  # noqa: ARG002 - see Feed
        """Take the newest frame, if there is a new one. It never waits."""
        is_over = self.source.over  # asked first: it has no further status then, and no further frame
        taken, self._held = [*self._held, *self.source.take_statuses()], []
        frame = self.source.poll()
        before = self._unannounced_end("it was played to its end") if self._is_next_file(frame) else []
        if frame is not None and not self.paused:
            self.waiting = frame
        for i, line in enumerate(taken):
            if line.status in ("frozen", "lost", "ended") and _follows(line, self.waiting):
                taken, self._held = taken[:i], taken[i:]
                changed()
                break
        taken += before
        self._note(taken)
        if is_over and frame is None and not self._held:
            error = self.source.error
            reason = "it was played to its end" if error is None else "reading it failed"
            last = [] if self._alive else self._unannounced_end(reason)
            self._note(last)
            taken += last
            if error is not None and last:
                changed()  # the error is raised in the next round: this one has the status
                return taken
            self.over = True
            if error is not None:
                raise error
        return taken

    def _is_next_file(self, frame: Frame | None) -> bool:
        """Return whether a frame is the first one of a file after another, of a folder in real time."""
        return frame is not None and self._alive is None and self.name not in (None, frame.source)

    def _unannounced_end(self, reason: str) -> list[StatusLine]:
        """Return the status that says that the source has ended; none if it was said."""
        name = self.name or self.title
        if self.latest is not None and (self.latest.source, self.latest.status) == (name, "ended"):
            return []
        return [StatusLine(source=name, time=datetime.now(timezone.utc), status="ended", reason=reason)]

    def last_statuses(self) -> list[StatusLine]:
        """Return the changes of the status that are left when the source is closed."""
        taken, self._held = [*self._held, *self.source.take_statuses()], []
        self._note(taken)
        return taken

    def end(self, reason: str) -> list[StatusLine]:
        """Take no more frames, and return the changes of the status that are left.

        The last of them says that the source has ended, so that nobody takes its last people for present
        ones.
        """
        super().end(reason)
        lines = self.last_statuses()
        ended = self._unannounced_end(reason)
        self._note(ended)
        return [*lines, *ended]

    def _note(self, lines: Iterable[StatusLine]) -> None:
        for line in lines:
            self.latest = line
            if line.status != "ended":
                self._alive = line

    def pause(self) -> None:
        """Let no frame come until `resume` is called."""
        super().pause()
        self._ask("pause")  # a file that is played in real time has none: its frames are left out meanwhile

    def resume(self) -> None:
        """Let frames come again."""
        super().resume()
        self._ask("resume")

    def failure(self) -> str | None:
        """Return what is wrong with the source at the end of a run; None if it works, or has no status."""
        line = self._alive
        if line is None or line.status in _WORKING:
            return None
        reason = f": {line.reason}" if line.reason else ""
        if line.status == "connecting":
            return f"source {line.source} was not connected at the end{reason}"
        return f"source {line.source} was lost at {line.time:%Y-%m-%d %H:%M:%S} UTC{reason}"


def _follows(line: StatusLine, frame: Frame | None) -> bool:
    """Return whether a change of the status is later than the capture of a frame."""
    return frame is not None and (frame.time is None or line.time > frame.time)
