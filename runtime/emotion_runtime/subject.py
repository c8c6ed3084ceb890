"""Turn the people in a frame into crop windows and patch weights.

Persons whose windows nearly coincide share one window, so that a single crop is encoded for all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.preprocess import PreprocessSpec, Window, center_window, patch_weights, subject_window
from emotion_runtime.types import Box, Track

# A window is shared if the sides of both differ by at most this factor and it contains the person's box.
SHARED_SIDE_RATIO = 1.15


@dataclass(frozen=True, slots=True)
class Subjects:
    """The persons of one frame, ready for the frame encoder.

    Attributes:
        windows: F windows to crop.
        frame_index: The window of each person, (P,) int64.
        patch_weights: Covered fraction of each patch, (P, G) float32.
    """

    windows: list[Window]
    frame_index: NDArray[np.int64]
    patch_weights: NDArray[np.float32]


def plan_crops(boxes: Sequence[Box], height: int, width: int, spec: PreprocessSpec) -> Subjects:
    """Return windows and patch weights for all persons of a frame.

    Args:
        boxes: (x1, y1, x2, y2) of each person in frame pixels.
        height: Height of the frame in pixels.
        width: Width of the frame in pixels.
        spec: Preprocessing of the model.
    """
    if spec.window == "center":
        windows = [center_window(height, width, spec)] if boxes else []
        index = [0] * len(boxes)
    else:
        windows, index = _shared_windows(boxes, height, width, spec)
    weights = [patch_weights(box, windows[i], spec) for box, i in zip(boxes, index, strict=True)]
    return Subjects(
        windows, np.asarray(index, np.int64), np.asarray(weights, np.float32).reshape(-1, spec.patches)
    )


def subject_boxes(
    tracks: Sequence[Track],
    views: Sequence[Track | None] | None,
    height: int,
    width: int,
    spec: PreprocessSpec,
) -> list[Box]:
    """Return the boxes that persons are cropped by: of their heads, where these were looked for and found.

    A model whose window is the middle of the frame was trained with the boxes of whole persons.

    Args:
        tracks: The persons.
        views: The persons with their heads, None for a person whose head was not found. None: heads were not
            looked for.
        height: Height of the frame in pixels.
        width: Width of the frame in pixels.
        spec: Preprocessing of the model.
    """
    if views is None or spec.window != "subject":
        return [track.box for track in tracks]
    return [
        within(view.head, height, width) if view and view.head else track.box
        for track, view in zip(tracks, views, strict=True)
    ]


def within(box: Box, height: int, width: int) -> Box:
    """Return the part of a box inside the frame."""
    x1, y1, x2, y2 = box
    return max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))


def _shared_windows(
    boxes: Sequence[Box], height: int, width: int, spec: PreprocessSpec
) -> tuple[list[Window], list[int]]:
    windows: list[Window] = []
    index: list[int] = []
    for box in boxes:
        own = subject_window(box, height, width, spec)
        fitting = [i for i, window in enumerate(windows) if _can_share(window, own, box)]
        if not fitting:
            windows.append(own)
        index.append(fitting[0] if fitting else len(windows) - 1)
    return windows, index


def _can_share(window: Window, own: Window, box: Box) -> bool:
    ratio = window.scale / own.scale
    x1, y1, x2, y2 = window.source
    return (
        1 / SHARED_SIDE_RATIO <= ratio <= SHARED_SIDE_RATIO
        and box[0] >= x1
        and box[1] >= y1
        and box[2] <= x2
        and box[3] <= y2
    )
