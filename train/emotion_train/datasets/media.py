"""Images, videos and folders of frames, distinguished by what a path refers to."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emotion_runtime.errors import EmotionError
from emotion_runtime.media import is_image as is_photo
from emotion_runtime.types import Box
from emotion_train.datasets.base import SampleImage
from emotion_train.datasets.frames import CLIP_FRAMES, image_size, numbered_frames, uniform
from emotion_train.datasets.rows import BadRow
from emotion_train.datasets.video import video_info

MediaSpan = tuple[float | None, float | None]  # start and end; None means that of the medium


@dataclass(frozen=True, slots=True)
class Medium:
    """What a row refers to; this class is a single image.

    Attributes:
        path: File or folder.
        width: Width of its images, pixels.
        height: Height of its images, pixels.
    """

    path: Path
    width: int
    height: int

    def images(self, span: MediaSpan, boxes: tuple[Box, ...]) -> tuple[SampleImage, ...]:
        """Return the images of a part of the medium.

        Args:
            span: The part: seconds of a video, or numbers of frames in a folder.
            boxes: The subject in every image.

        Raises:
            BadRow: The part does not exist.
        """
        if span != (None, None):
            raise BadRow("start or end of a single image")
        return (SampleImage(self.path, boxes),)


@dataclass(frozen=True, slots=True)
class FrameFolder(Medium):
    """A folder of frames. A span is in frame numbers and includes its last frame.

    Attributes:
        frames: (number, file) of each frame, sorted by number.
    """

    frames: tuple[tuple[int, Path], ...]

    def images(self, span: MediaSpan, boxes: tuple[Box, ...]) -> tuple[SampleImage, ...]:
        """Return eight frames, spread evenly over those of the span."""
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
    """A video. A span is in seconds.

    Attributes:
        first: Time of the first frame, in seconds from the start of the medium.
        last: Time of the last frame, in seconds.
        step: Time between two frames, seconds.
    """

    first: float
    last: float
    step: float

    def images(self, span: MediaSpan, boxes: tuple[Box, ...]) -> tuple[SampleImage, ...]:
        """Return the frames at eight times, spread evenly over the span, including both ends."""
        start = self.first if span[0] is None else span[0]
        end = self.last if span[1] is None else span[1]
        # The last frame is shown for one step, and annotated times may be rounded by another.
        if not max(0.0, self.first - 2 * self.step) <= start <= end <= self.last + 2 * self.step:
            raise BadRow("start and end not in the video, in this order")
        times = np.clip(np.linspace(start, end, CLIP_FRAMES), self.first, self.last).tolist()
        return tuple(SampleImage(self.path, boxes, time) for time in times)


def open_medium(path: Path) -> Medium:
    """Open a folder of numbered frames, an image or a video, which an animated GIF, WebP or PNG is, too.

    Raises:
        BadRow: The path does not exist or cannot be read.
    """
    if path.is_dir():
        frames = numbered_frames(path)
        return FrameFolder(path, *image_size(frames[0][1]), tuple(frames))
    if not path.is_file():
        raise BadRow("no file or folder at the path", path)
    if is_photo(path):
        return Medium(path, *image_size(path))
    try:
        info = video_info(path)
    except EmotionError as error:
        raise BadRow("unreadable video", path) from error
    return Video(path, info.width, info.height, info.first, info.last, info.step)
