"""One source in a loop over several: what it has to give now, without waiting for it."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Protocol

from emotion_runtime.read_ahead import ReadAhead
from emotion_runtime.types import Frame, SourceStatus, StatusLine

_CLOSE = 0.5  # seconds for all sources to close; those that hang are left behind
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


def limited(frames: Iterable[Frame], seconds: float | None, *, of: str) -> Iterator[Frame]:
    """Yield the frames of the first seconds of media time of a source.

    Args:
        frames: All frames of the source.
        seconds: The limit; None: no limit.
        of: The source as it was opened. If its frames have other names, they are those of the files of a
            folder, and the limit is that of each file.
    """
    name, start = "", 0.0
    for frame in frames:
        if frame.source != name:
            name, start = frame.source, frame.t
        if seconds is None or frame.t - start < seconds:
            yield frame
        elif name == of:
            return


class Feed:
    """A source that is read frame by frame, such as a file.

    Args:
        source: Frames in order of time.
        seconds: Only so many seconds of it are read. None: all of it.

    Attributes:
        source: The source.
        title: Name of the source as it was opened; "" if it has none, as an iterator of the caller's own.
        name: Name of the latest frame's source; None before the first frame.
        start: Time of the first frame of that name.
        offset: Media time of the run when the source was added or resumed.
        waiting: The frame that was read and not taken.
        over: No frame will come any more.
        newest_time: Time of the latest frame that was taken.
        own_pace: Frames come with their time of capture, so they do not wait for the media time of others.
        paused: No frame is wanted now.
        removed: No frame is wanted any more.
        latest: The latest change of the status. None: there was none.
    """

    live = False

    def __init__(self, source: Iterable[Frame], seconds: float | None = None) -> None:
        self.source: Any = source
        self.title: str = getattr(source, "name", "")
        self.name: str | None = None
        self.start = self.offset = self.newest_time = 0.0
        self.waiting: Frame | None = None
        self.own_pace = self.live
        self.over = self.paused = self.removed = False
        self.latest: StatusLine | None = None
        self._frames = iter(limited(source, seconds, of=self.title))
        self._reader: ReadAhead | None = None

    @property
    def names(self) -> set[str]:
        """The names under which the source is known."""
        return {name for name in (self.title, self.name) if name}

    @property
    def read_ahead(self) -> bool:
        """Whether a thread reads the source."""
        return self._reader is not None

    @property
    def in_step(self) -> bool:
        """Whether the source advances by media time, together with others."""
        return not (self.over or self.paused or self.own_pace)

    @property
    def media_time(self) -> float:
        """Media time of the waiting frame, on the scale of the run."""
        return 0.0 if self.waiting is None else self.offset + self.waiting.t - self.start

    def look(self, *, wait: bool, changed: Callable[[], None]) -> list[StatusLine]:
        """Put the next frame into `waiting`, if there is one and none waits already.

        Args:
            wait: Wait for the frame. False: a thread reads it, and calls `changed` when it is there.
            changed: See `wait`.

        Returns:
            Changes of the status of the source.

        Raises:
            Exception: Whatever the source raises; it is over then.
        """
        if self.waiting is not None or self.over or self.paused:
            return []
        if not wait and self._reader is None:
            self._reader = ReadAhead(self._frames, self.title or "frames", changed)
        try:
            if self._reader is None:
                self.waiting = next(self._frames, None)
                self.over = self.waiting is None
            elif self._reader.ready():
                self.waiting = self._reader.take()
                self.over = self.waiting is None
        except BaseException:
            self.over = True
            raise
        if self.waiting is not None:
            self.own_pace = self.waiting.captured is not None
        return []

    def begin(self, now: float) -> None:
        """Take note of the time at which the run begins, or the source is added to it."""

    def pause(self) -> None:
        """Let no frame come until `resume` is called."""
        self.paused = True

    def resume(self) -> None:
        """Let frames come again."""
        self.paused = False

    def failure(self) -> str | None:
        """Return what is wrong with the source at the end of a run, apart from what it raised."""
        return None

    def last_statuses(self) -> list[StatusLine]:
        """Return the changes of the status that are left when the source is closed."""
        return []

    def end(self, reason: str) -> list[StatusLine]:  # noqa: ARG002 - see `LiveFeed`
        """Take no more frames, and return the changes of the status that are left; a file has none.

        Args:
            reason: Why no more of the source is wanted, in words.
        """
        self.waiting, self.over = None, True
        return []

    def stop(self) -> None:
        """Make the source end soon, whatever it waits for."""
        self._ask("stop")

    def close(self) -> None:
        """Release what the source holds; may be called in a thread of its own."""
        if self._reader is not None and not self._reader.close():
            return  # its thread hangs in it
        self._ask("close")

    def _ask(self, name: str) -> None:
        method = getattr(self.source, name, None)
        if method is not None:
            with suppress(ValueError):  # a generator that another thread runs
                method()


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


def close_all(feeds: Sequence[Feed]) -> None:
    """Close sources side by side, since closing one may take a while."""
    for feed in feeds:
        feed.stop()
    give_up = time.monotonic() + _CLOSE
    threads = [close_in_background(feed) for feed in feeds if feed.own_pace or feed.read_ahead]
    for feed in feeds:
        if not (feed.own_pace or feed.read_ahead):
            feed.close()
    for thread in threads:
        thread.join(max(give_up - time.monotonic(), 0.0))


def close_in_background(feed: Feed) -> threading.Thread:
    """Close a source in a thread, which is left behind if a library hangs."""
    thread = threading.Thread(target=feed.close, name=f"closing {feed.title}", daemon=True)
    thread.start()
    return thread
