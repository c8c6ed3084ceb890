"""Which frames of several sources go together: files advance by media time, live sources do not wait."""

from collections.abc import Sequence

from emotion_runtime.feeds import Feed
from emotion_runtime.types import Frame

TOGETHER = 0.02  # seconds of media time between frames of different files that go together


class FileClock:
    """The media time that the files of a run have reached, and the frames that are due by it.

    Attributes:
        now: Media time of the files in the latest round, in seconds; a file that joins later begins there.
    """

    def __init__(self) -> None:
        self.now = 0.0

    def take(self, feeds: Sequence[Feed]) -> list[Frame]:
        """Take the frames of live sources, and those of files that belong to the earliest time."""
        in_step = [feed for feed in feeds if feed.in_step]
        complete = all(feed.waiting is not None for feed in in_step)  # otherwise one is still being read
        if in_step and complete:
            self.now = min(feed.media_time for feed in in_step)
        frames = []
        for feed in feeds:
            frame = feed.waiting
            if frame is None or feed.paused:
                continue
            if feed.own_pace or (complete and feed.media_time <= self.now + TOGETHER):
                frames.append(frame)
                feed.newest_time, feed.waiting = frame.t, None
        return frames
