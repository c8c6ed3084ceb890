"""Pictures, videos and folders of frames, told apart by what lies at a path."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emotion_runtime.errors import EmotionError
from emotion_runtime.types import Box
from emotion_train.datasets.base import SampleImage
from emotion_train.datasets.frames import CLIP_FRAMES, image_size, is_image, numbered_frames, uniform
from emotion_train.datasets.rows import BadRow
from emotion_train.datasets.video import video_info

Span = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Medium:
    """What a row shows. width, height: pixels of its pictures."""

    path: Path
    width: int
    height: int

    def images(self, span: Span, boxes: tuple[Box, ...]) -> tuple[SampleImage, ...]:
        """The pictures to look at. span: start and end of the part that is meant, None for the whole.

        Raises:
            BadRow: there is no such part.

        """
        if span != (None, None):
            raise BadRow("start or end of a single picture")
        return (SampleImage(self.path, boxes),)


@dataclass(frozen=True, slots=True)
class FrameFolder(Medium):
    """frames: (number, file) of each. Spans are numbers of frames, the last one included."""

    frames: tuple[tuple[int, Path], ...]

    def images(self, span: Span, boxes: tuple[Box, ...]) -> tuple[SampleImage, ...]:
        """Eight files, spread over the frames of the span by their order."""
        start, end = span
        chosen = [
            path
            for number, path in self.frames
            if (start is None or number >= start) and (end is None or number <= end)
        ]
        if not chosen:
            raise BadRow("no frames from start to end")
        return tuple(SampleImage(chosen[position], boxes) for position in uniform(0, len(chosen) - 1))


@dataclass(frozen=True, slots=True)
class Video(Medium):
    """last: when the last frame begins, seconds. step: from a frame to the next. Spans are seconds."""

    last: float
    step: float

    def images(self, span: Span, boxes: tuple[Box, ...]) -> tuple[SampleImage, ...]:
        """Eight moments, both ends of the span among them."""
        start = 0.0 if span[0] is None else span[0]
        end = self.last if span[1] is None else span[1]
        # The last frame lasts a step, and written times may be rounded up by another.
        if not 0 <= start <= end <= self.last + 2 * self.step:
            raise BadRow("start and end not in the video, in this order")
        moments = np.minimum(np.linspace(start, end, CLIP_FRAMES), self.last).tolist()
        return tuple(SampleImage(self.path, boxes, moment) for moment in moments)


def open_medium(path: Path) -> Medium:
    """What lies at a path: a folder of numbered frames, a picture by its suffix, else a video.

    Raises:
        BadRow: nothing, or it cannot be read.

    """
    if path.is_dir():
        frames = numbered_frames(path)
        return FrameFolder(path, *image_size(frames[0][1]), tuple(frames))
    if not path.is_file():
        raise BadRow("no file or folder at the path")
    if is_image(path):
        return Medium(path, *image_size(path))
    try:
        facts = video_info(path)
    except EmotionError as error:
        raise BadRow("unreadable video") from error
    return Video(path, facts.width, facts.height, facts.last, facts.step)
