"""Take frames from several sources: those that are ready go through the models together."""

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import cast

from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.feeds import Feed, close_all, close_in_background
from emotion_runtime.file_clock import FileClock
from emotion_runtime.live_feed import LiveFeed, LiveFrames
from emotion_runtime.metrics import StageTimer
from emotion_runtime.types import Frame, StatusLine

_log = logging.getLogger(__name__)
LOOK = 0.2  # seconds after which an empty round comes if nothing happens


@dataclass(frozen=True, slots=True)
class Round:
    """One step of several sources.

    Attributes:
        frames: At most one frame of each source. Empty if none is ready.
        started: Names of sources whose first frame is in this round.
        ended: Names of sources that have ended or were removed since the round before.
        statuses: Changes of the status of live sources since the round before; they come before the frames.
    """

    frames: list[Frame]
    started: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    statuses: list[StatusLine] = field(default_factory=list)


class Rounds:
    """Rounds of frames until all sources have ended.

    A round takes the newest frame of every live source that has one, and never waits for a particular source.
    Files advance by media time, so that files with different frame rates stay side by side; beside a live
    source they are read in threads, and a round takes their next frames if they are there. So each source
    gets one frame of a round at most: a file that is read as fast as possible and a camera take turns. A
    source that fails does not stop the others.

    Args:
        sources: Frames of each source, in order of time. A source may go on to another name: files in turn.
        timer: Gets the time spent on reading.
        seconds: So much of each source is taken: media time of a file, and time by the clock of a live
            source. None: all of it.
        stop: Ends the rounds when it is set, after the current one. None: only the method `stop` does.

    Attributes:
        errors: What went wrong with the sources that failed so far.

    Raises:
        EmotionError: Two sources have the same name. Iterating raises it, too, for names that are only known
            with the first frame.
    """

    def __init__(
        self,
        sources: Sequence[Iterable[Frame]],
        timer: StageTimer,
        *,
        seconds: float | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._timer = timer
        self._seconds = seconds
        self._stop = threading.Event()
        self._stop_outside = stop or self._stop
        self._lock = threading.Lock()  # of `_feeds`, which other threads change
        self._changed = threading.Event()
        self._feeds: list[Feed] = []
        self._ended: list[Feed] = []  # live sources that ended, for `failures`
        self._begun = False
        self._clock = FileClock()
        self.errors: list[SourceBroken] = []
        for source in sources:
            self.add(source)

    def add(self, source: Iterable[Frame]) -> None:
        """Take frames from one more source. A file joins at the media time of the others.

        Raises:
            EmotionError: There is a source of this name already, or the rounds were stopped.
        """
        live = getattr(source, "live", False)
        if live:
            feed: Feed = LiveFeed(cast("LiveFrames", source), self._seconds)
        else:
            feed = Feed(source, self._seconds)
        with self._lock:
            if self._stop.is_set():
                raise EmotionError(f"source {feed.title}: the stream is closed; start a new one")
            if any(feed.names & other.names for other in self._feeds if not other.removed):
                raise EmotionError(f"several sources have the same name ({feed.title}): give NAME=URI")
            self._feeds.append(feed)
            if self._begun:
                feed.begin(time.monotonic())
        if live:
            feed.source.on_change(self._changed.set)
        self._changed.set()

    def remove(self, name: str) -> None:
        """Take no more frames from a source, and close it. The status of a live source becomes "ended".

        Raises:
            EmotionError: There is no such source.
        """
        self._named(name).removed = True
        self._changed.set()

    def pause(self, name: str) -> None:
        """Take no frames from a source until `resume` is called. A camera is released meanwhile.

        Raises:
            EmotionError: There is no such source.
        """
        self._named(name).pause()

    def resume(self, name: str) -> None:
        """Take frames from a source again after `pause`.

        Raises:
            EmotionError: There is no such source.
        """
        feed = self._named(name)
        feed.offset = self._clock.now
        feed.start = feed.newest_time
        feed.resume()
        self._changed.set()

    def names(self) -> list[str]:
        """Return the names of the sources that are not over and were not removed, as they were opened."""
        with self._lock:
            names = [feed.title or feed.name for feed in self._feeds if not feed.removed]
        return [name for name in names if name]

    def statuses(self) -> dict[str, StatusLine]:
        """Return the latest change of the status of each live source, by its name."""
        with self._lock:
            feeds = list(self._feeds)
        return {feed.title: feed.latest for feed in feeds if feed.latest is not None}

    def stop(self) -> None:
        """End the rounds soon, whatever a source waits for; may be called by another thread."""
        self._stop.set()
        self._changed.set()
        for feed in list(self._feeds):
            feed.stop()

    def __iter__(self) -> Iterator[Round]:
        """Yield a round when something is ready, and an empty one every `LOOK` seconds otherwise."""
        with self._lock:
            self._begun = True
            for feed in self._feeds:
                feed.begin(time.monotonic())
        quiet_since = time.monotonic()
        while not (self._stop.is_set() or self._stop_outside.is_set()):
            self._changed.clear()
            one, left = self._collect()
            if one.frames or one.started or one.ended or one.statuses:
                yield one
                quiet_since = time.monotonic()
            elif not left:
                return
            else:
                with self._timer.stage("read"):
                    self._changed.wait(LOOK)
                # A file in real time that is paused tells of each frame that nobody takes.
                if time.monotonic() - quiet_since >= LOOK:
                    yield one
                    quiet_since = time.monotonic()

    def _collect(self) -> tuple[Round, bool]:
        """Take what is ready. Return it, and whether there may be more later."""
        with self._lock:
            feeds = list(self._feeds)
        # Beside a source with a pace of its own nothing may block, neither a pipe nor a caller's iterator.
        wait = len(feeds) == 1 or not any(feed.own_pace for feed in feeds)
        one = Round([])
        now = time.monotonic()
        for feed in feeds:
            if feed.removed:
                one.statuses.extend(feed.end("it was removed"))
            elif isinstance(feed, LiveFeed) and feed.expired(now):
                one.statuses.extend(feed.end("its time is over"))
            self._look(feed, one, wait=wait)
        _check_names(feeds)
        one.frames.extend(self._clock.take(feeds))
        over = [feed for feed in feeds if feed.over]
        if over:
            self._drop(over)
        return one, len(over) < len(feeds)

    def _look(self, feed: Feed, one: Round, *, wait: bool) -> None:
        """Look for the next frame of a source, and note whether it begins or ends."""
        if not feed.over:
            try:
                with self._timer.stage("read"):
                    one.statuses.extend(feed.look(wait=wait, changed=self._changed.set))
            except SourceBroken as error:
                self._failed(error)
            except (EmotionError, OSError) as error:  # also of a source of the caller's own
                which = "source" if feed.name is None else f"source {feed.name}"
                self._failed(SourceBroken(f"{which} failed: {error}"))
        name = None if feed.waiting is None else feed.waiting.source
        if name == feed.name or (name is None and not feed.over):
            return
        if feed.name is None:
            feed.offset = self._clock.now
        else:
            one.ended.append(feed.name)
        feed.name = name
        if feed.waiting is not None:
            one.started.append(feed.waiting.source)
            feed.start = feed.waiting.t

    def _drop(self, over: Sequence[Feed]) -> None:
        with self._lock:
            self._feeds = [feed for feed in self._feeds if feed not in over]
        self._ended = [feed for feed in self._ended if feed.title not in {each.title for each in over}]
        self._ended += [feed for feed in over if feed.live and not feed.removed]
        for feed in over:
            if feed.live or feed.removed:
                feed.stop()
                close_in_background(feed)  # closing may take a while, and the other sources go on

    def _failed(self, error: SourceBroken) -> None:
        self.errors.append(error)
        if len(self._feeds) > 1:  # now, since the others may go on for hours, and may be stopped
            _log.warning("%s", error)

    def _named(self, name: str) -> Feed:
        with self._lock:
            for feed in self._feeds:
                if name in feed.names and not feed.removed:
                    return feed
            left = [feed.title or feed.name or "?" for feed in self._feeds if not feed.removed]
        expected = ", ".join(left) or "none yet: it begins with its first event"
        raise EmotionError(f"there is no source {name!r}; expected one of: {expected}")

    def raise_errors(self) -> None:
        """Raise one error for all sources that failed.

        Raises:
            SourceBroken: A source failed.
        """
        if self.errors:
            raise _joined([str(error) for error in self.errors])

    def broken(self) -> SourceBroken | None:
        """Return one error for all sources that failed, and for the live ones that are not live now."""
        sentences = [str(error) for error in self.errors]
        with self._lock:
            feeds = [*self._ended, *self._feeds]
        sentences += filter(None, (feed.failure() for feed in feeds))
        return _joined(sentences) if sentences else None

    def close(self) -> list[StatusLine]:
        """Close all sources, within a second even if some hang. Safe to call twice.

        Returns:
            The last changes of their status.
        """
        self.stop()
        with self._lock:
            feeds, self._feeds = self._feeds, []
            self._ended += [feed for feed in feeds if feed.live]
        close_all(feeds)
        return [line for feed in feeds for line in feed.last_statuses()]

    def __enter__(self) -> "Rounds":  # noqa: PYI034 - typing.Self needs Python 3.11
        """Return the rounds themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all sources."""
        self.close()


def _joined(sentences: Sequence[str]) -> SourceBroken:
    if len(sentences) == 1:
        return SourceBroken(sentences[0])
    return SourceBroken(f"{len(sentences)} sources failed: {'; '.join(sentences)}")


def _check_names(feeds: Sequence[Feed]) -> None:
    names = [feed.name for feed in feeds if feed.name is not None]
    if len(set(names)) < len(names):
        raise EmotionError(f"several sources have the same name ({', '.join(names)}): give each once")
