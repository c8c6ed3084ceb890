"""Boxes of people, from the formats of the data sets to pixels of the image."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.types import Box
from emotion_train.datasets.base import SampleImage
from emotion_train.datasets.rows import BadRow

Detection = tuple[float, float, float, float, float]  # x1, y1, x2, y2, score

DETECTOR_SIDE = 640  # the detector's input was resized to fit a square of this side, pixels
MIN_SCORE = 0.5  # detections up to this score are ignored


def person_boxes(detections: Iterable[Detection], width: int, height: int) -> tuple[Box, ...]:
    """Convert detections of the authors' detector to boxes in an image of width x height pixels.

    Boxes are clipped to the image. They are not rounded here: `union_patch_weights` rounds them to whole
    input pixels, where the authors do it.

    Args:
        detections: In the detector's scale, without the margins of its letterbox: divided by
            min(640 / width, 640 / height) they are pixels of the image.
        width: Width of the image, pixels.
        height: Height of the image, pixels.
    """
    scale = min(DETECTOR_SIDE / width, DETECTOR_SIDE / height)
    boxes = []
    for x1, y1, x2, y2, score in detections:
        left, right = (min(max(x / scale, 0.0), width) for x in (x1, x2))
        top, bottom = (min(max(y / scale, 0.0), height) for y in (y1, y2))
        if score > MIN_SCORE and left < right and top < bottom:
            boxes.append((left, top, right, bottom))
    return tuple(boxes)


def image_of_everyone(
    path: Path, detections: Mapping[str, Iterable[Detection]], width: int, height: int
) -> SampleImage:
    """Return a frame whose subject is everyone in it.

    Args:
        path: The frame.
        detections: Detections of the clip, by file name.
        width: Width of the frame, pixels.
        height: Height of the frame, pixels.

    Raises:
        BadRow: The frame has no entry; an empty entry is valid and means that nobody is visible.
    """
    if path.name not in detections:
        raise BadRow("no boxes for a frame")
    return SampleImage(path, person_boxes(detections[path.name], width, height))


def inside(box: Box, width: int, height: int) -> Box:
    """Return the box if a part of it is inside an image of width x height pixels.

    Raises:
        BadRow: No part of it is.
    """
    x1, y1, x2, y2 = box
    if not (max(x1, 0) < min(x2, width) and max(y1, 0) < min(y2, height)):
        raise BadRow("box without area inside the image")
    return box


def joints_box(joints: NDArray[np.floating]) -> Box | None:
    """Return the box around a person's joints, extended to whole pixels; None if no joint was detected.

    Args:
        joints: (J, 3) x, y, score in pixels of the image; a joint that was not detected is all zero.
    """
    found = joints[np.isfinite(joints).all(1) & (joints != 0).any(1)]
    if not len(found):
        return None
    x1, y1 = np.floor(found[:, :2].min(0)).tolist()
    x2, y2 = np.ceil(found[:, :2].max(0)).tolist()
    return (x1, y1, x2, y2)
