"""Boxes of people as the data sets state them, in pixels of the picture."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.types import Box
from emotion_train.datasets.base import SampleImage
from emotion_train.datasets.rows import BadRow

Detection = tuple[float, float, float, float, float]  # x1, y1, x2, y2, score

DETECTOR_SIDE = 640  # the detector saw pictures scaled to fit a square of this side, pixels
LEAST_SCORE = 0.5  # a detection with no more than this is nobody


def person_boxes(detections: Iterable[Detection], width: int, height: int) -> tuple[Box, ...]:
    """Everybody that the authors' detector found in a picture of width x height pixels.

    detections: in the detector's scale, without the bars of its letterbox: divided by
    min(640 / width, 640 / height) they are pixels of the picture. Boxes are clipped to the picture; they are
    not rounded here, but to whole input pixels in `union_patch_weights`, where the authors round.
    """
    scale = min(DETECTOR_SIDE / width, DETECTOR_SIDE / height)
    boxes = []
    for x1, y1, x2, y2, score in detections:
        left, right = (min(max(x / scale, 0.0), width) for x in (x1, x2))
        top, bottom = (min(max(y / scale, 0.0), height) for y in (y1, y2))
        if score > LEAST_SCORE and left < right and top < bottom:
            boxes.append((left, top, right, bottom))
    return tuple(boxes)


def everybody(
    path: Path, detections: Mapping[str, Iterable[Detection]], width: int, height: int
) -> SampleImage:
    """A frame whose subject is everybody in it. detections: of the clip, by file name.

    Raises:
        BadRow: there is no entry for the frame; an empty one says that nobody is there.

    """
    if path.name not in detections:
        raise BadRow("no boxes for a frame")
    return SampleImage(path, person_boxes(detections[path.name], width, height))


def inside(box: Box, width: int, height: int) -> Box:
    """The box as it is.

    Raises:
        BadRow: nothing of it lies in a picture of width x height pixels.

    """
    x1, y1, x2, y2 = box
    if not (max(x1, 0) < min(x2, width) and max(y1, 0) < min(y2, height)):
        raise BadRow("box without area inside of the picture")
    return box


def joints_box(joints: NDArray[np.floating]) -> Box | None:
    """The box around a person's joints, widened to whole pixels; None when no joint was found.

    joints: (J, 3) x, y, score in pixels of the picture; a joint that was not found is all zero.
    """
    found = joints[np.isfinite(joints).all(1) & (joints != 0).any(1)]
    if not len(found):
        return None
    x1, y1 = np.floor(found[:, :2].min(0)).tolist()
    x2, y2 = np.ceil(found[:, :2].max(0)).tolist()
    return (x1, y1, x2, y2)
