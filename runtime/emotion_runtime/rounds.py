"""Take frames from several sources in turn: those that belong to one time go through the models together."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.metrics import StageTimer
from emotion_runtime.types import Frame

TOGETHER = 0.02  # seconds of media time between frames of different files that go together


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


@dataclass(frozen=True, slots=True)
class Round:
    """One step of several sources.

    Attributes:
        frames: At most one frame of each source. Empty when the last source has ended.
        started: Names of sources whose first frame is in this round.
        ended: Names of sources that have ended since the round before.
    """

    frames: list[Frame]
    started: list[str]
    ended: list[str]


@dataclass(slots=True)
class _Feed:
    """One source: its frames, the name and the time of its first frame, and a frame that waits."""

    frames: Iterator[Frame]
    name: str | None = None
    start: float = 0.0
    waiting: Frame | None = None
    over: bool = False


@dataclass(slots=True)
class Rounds:
    """Rounds of frames until all sources have ended.

    Files advance by media time, so that files with different frame rates stay side by side. A frame of a live
    source is taken when it is there. A source that fails midway does not stop the others.

    Attributes:
        sources: Frames of each source, in order of time. A source may go on to another name: files in turn.
        timer: Gets the time spent on reading.
        errors: The sources that failed so far.
    """

    sources: Sequence[Iterable[Frame]]
    timer: StageTimer
    errors: list[SourceBroken] = field(default_factory=list)

    def __iter__(self) -> Iterator[Round]:
        """Yield the rounds.

        Raises:
            EmotionError: Two sources have the same name.
        """
        feeds = [_Feed(iter(source)) for source in self.sources]
        while True:
            started: list[str] = []
            ended: list[str] = []
            for feed in feeds:
                if feed.waiting is None and not feed.over:
                    self._read(feed, started, ended)
            _check_names(feeds)
            frames = _due(feeds)
            yield Round(frames, started, ended)
            if not frames:
                return

    def _read(self, feed: _Feed, started: list[str], ended: list[str]) -> None:
        """Take the next frame of a source, and note whether it begins or ends."""
        try:
            with self.timer.stage("read"):
                feed.waiting = next(feed.frames, None)
        except SourceBroken as error:
            self._failed(error)
        except (EmotionError, OSError) as error:  # also of a source of the caller's own
            which = "source" if feed.name is None else f"source {feed.name}"
            self._failed(SourceBroken(f"{which} failed: {error}"))
        feed.over = feed.waiting is None
        name = None if feed.waiting is None else feed.waiting.source
        if name == feed.name:
            return
        if feed.name is not None:
            ended.append(feed.name)
        feed.name = name
        if feed.waiting is not None:
            started.append(feed.waiting.source)
            feed.start = feed.waiting.t

    def _failed(self, error: SourceBroken) -> None:
        self.errors.append(error)
        if len(self.sources) > 1:  # now, since the others may go on for hours, and may be stopped
            logging.getLogger(__name__).warning("%s", error)

    def raise_errors(self) -> None:
        """Raise one error for all sources that failed.

        Raises:
            SourceBroken: A source failed.
        """
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise SourceBroken(f"{len(self.errors)} sources failed: {'; '.join(map(str, self.errors))}")


def _check_names(feeds: Sequence[_Feed]) -> None:
    names = [feed.name for feed in feeds if feed.name is not None]
    if len(set(names)) < len(names):
        raise EmotionError(f"several sources have the same name ({', '.join(names)}): give each once")


def _due(feeds: Sequence[_Feed]) -> list[Frame]:
    """Take the frames of live sources, and those of files that belong to the earliest time."""
    times = [feed.waiting.t - feed.start for feed in feeds if feed.waiting and feed.waiting.captured is None]
    latest = min(times, default=0.0) + TOGETHER
    frames = []
    for feed in feeds:
        frame = feed.waiting
        if frame is not None and (frame.captured is not None or frame.t - feed.start <= latest):
            frames.append(frame)
            feed.waiting = None
    return frames
