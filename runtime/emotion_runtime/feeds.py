"""One source in a loop over several: what it has to give now, without waiting for it."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from emotion_runtime.read_ahead import ReadAhead
from emotion_runtime.types import Frame, StatusLine

_CLOSE = 0.5  # seconds for all sources to close; those that hang are left behind


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
