"""Sample a video at even times, and store its frames as small JPEGs with the people in them."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emotion_runtime.detectors import Detector
from emotion_runtime.types import Frame
from emotion_train.clips.format import ScoredBox
from emotion_train.clips.jpeg import resized_jpeg

_EPSILON = 1e-6  # seconds; absorbs rounding errors of frame times
_LATE_START = 0.1  # seconds by which the first frame may begin after the sound and still be shown from 0 on
_FIRST_STEP = 0.04  # seconds that a frame lasts if it is the only one of the video


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """A frame of a clip.

    Attributes:
        jpeg: The encoded image.
        width: Pixels.
        height: Pixels.
        boxes: x1, y1, x2, y2, score, in pixels of this frame.
    """

    jpeg: bytes
    width: int
    height: int
    boxes: list[ScoredBox]


@dataclass(slots=True)
class VideoClock:
    """How far a video has been read.

    Attributes:
        start: Time of the first frame, in seconds: above 0 if the sound begins earlier.
        end: Seconds at which the last frame read so far ends.
    """

    start: float = 0.0
    end: float = 0.0


def grid_indices(start: float, end: float, fps: float) -> range:
    """Return the indices k of the times k / fps from start (included) to end (excluded), in seconds."""
    return range(math.ceil(start * fps - _EPSILON), math.ceil(end * fps - _EPSILON))


def frames_on_grid(
    frames: Iterable[Frame], indices: Iterable[int], fps: float, clock: VideoClock
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the image shown at each of the times k / fps: that of the last frame that begins not later.

    Args:
        frames: Of a video, in order.
        indices: Rising indices k. Times before the first frame and after the end are left out.
        fps: Of the grid.
        clock: Updated while the video is read; at the end it holds the duration of the video.

    Yields:
        k, and the image (H, W, 3) uint8 BGR.
    """
    remaining = iter(indices)
    index = next(remaining, None)
    shown: Frame | None = None
    step = _FIRST_STEP
    for frame in frames:
        if shown is None:
            clock.start = frame.t if frame.t > _LATE_START else 0.0
            while index is not None and index / fps < clock.start - _EPSILON:
                index = next(remaining, None)
        while shown is not None and index is not None and index / fps < frame.t - _EPSILON:
            yield index, shown.image
            index = next(remaining, None)
        if shown is not None:
            step = frame.t - shown.t
        shown = frame
        clock.end = frame.t + step
    while shown is not None and index is not None and index / fps < clock.end - _EPSILON:
        yield index, shown.image
        index = next(remaining, None)


def store(image_bgr: NDArray[np.uint8], detector: Detector, *, short_side: int, quality: int) -> StoredFrame:
    """Shrink an image, and detect people in the full-size one.

    Args:
        image_bgr: (H, W, 3) uint8 BGR.
        detector: Finds the people.
        short_side: Of the stored frame, pixels.
        quality: Of the JPEG, 1 to 95.
    """
    image = Image.fromarray(np.ascontiguousarray(image_bgr[:, :, ::-1]))
    jpeg, size = resized_jpeg(image, short_side=short_side, quality=quality)
    return StoredFrame(jpeg, *size, _stored_boxes(detector, image_bgr, size))


def _stored_boxes(detector: Detector, image_bgr: NDArray[np.uint8], size: tuple[int, int]) -> list[ScoredBox]:
    """Return detections in pixels of an image of (width, height) = size, rounded to two decimals."""
    height, width = image_bgr.shape[:2]
    found = detector(image_bgr)
    scale = np.array([size[0] / width, size[1] / height] * 2)
    boxes = np.round(np.clip(found.boxes * scale, 0, [*size, *size]), 2)
    return [(*box, round(float(score), 4)) for box, score in zip(boxes.tolist(), found.scores, strict=True)]
