"""Pictures of a video at even times, small and as JPEG."""

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

_EPSILON = 1e-6  # seconds; times of frames are sums and quotients
_FIRST_STEP = 0.04  # seconds that the only frame of a video lasts


@dataclass(frozen=True, slots=True)
class StoredFrame:
    """A frame as it goes into a clip. boxes: x1, y1, x2, y2, score in pixels of this frame."""

    jpeg: bytes
    width: int
    height: int
    boxes: list[ScoredBox]


@dataclass(slots=True)
class VideoClock:
    """How far a video has been read. end: seconds, when its last frame so far ceases to be shown."""

    end: float = 0.0


def grid_indices(start: float, end: float, fps: float) -> range:
    """Numbers k of the moments k / fps from start (included) to end (excluded), seconds."""
    return range(math.ceil(start * fps - _EPSILON), math.ceil(end * fps - _EPSILON))


def frames_on_grid(
    frames: Iterable[Frame], wanted: Iterable[int], fps: float, clock: VideoClock
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The picture that is shown at each of the moments k / fps: the last that began before or at it.

    frames: of a video, in order. wanted: numbers k, rising. Gives k and (H, W, 3) uint8 BGR; moments after
    the end of the video are left out. `clock` is kept up to date; at the end it tells how long the video is.
    """
    moments = iter(wanted)
    number = next(moments, None)
    shown: Frame | None = None
    step = _FIRST_STEP
    for frame in frames:
        while shown is not None and number is not None and number / fps < frame.t - _EPSILON:
            yield number, shown.image
            number = next(moments, None)
        if shown is not None:
            step = frame.t - shown.t
        shown = frame
        clock.end = frame.t + step
    while shown is not None and number is not None and number / fps < clock.end - _EPSILON:
        yield number, shown.image
        number = next(moments, None)


def store(image_bgr: NDArray[np.uint8], detector: Detector, *, short_side: int, quality: int) -> StoredFrame:
    """Shrink a picture (H, W, 3) uint8 BGR, and find the persons of the full one.

    short_side: of the stored frame, pixels. quality: of the JPEG, 1 to 95.
    """
    picture = Image.fromarray(np.ascontiguousarray(image_bgr[:, :, ::-1]))
    jpeg, size = resized_jpeg(picture, short_side=short_side, quality=quality)
    return StoredFrame(jpeg, *size, _stored_boxes(detector, image_bgr, size))


def _stored_boxes(detector: Detector, image_bgr: NDArray[np.uint8], size: tuple[int, int]) -> list[ScoredBox]:
    """Detections in pixels of a picture of (width, height) = size; no detector is finer than two decimals."""
    height, width = image_bgr.shape[:2]
    found = detector(image_bgr)
    scale = np.array([size[0] / width, size[1] / height] * 2)
    boxes = np.round(np.clip(found.boxes * scale, 0, [*size, *size]), 2)
    return [(*box, round(float(score), 4)) for box, score in zip(boxes.tolist(), found.scores, strict=True)]
