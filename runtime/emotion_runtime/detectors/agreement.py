"""Compare detections of the same images: what a backend finds, with what ONNX Runtime finds on the CPU."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.types import Detections

_SAME = 0.5  # intersection over union of two boxes of one person
_MARGIN = 0.05  # above the minimum score: below, a rounding decides whether a box is there


@dataclass(frozen=True, slots=True)
class Agreement:
    """How detections agree with those that are expected.

    Attributes:
        boxes: Number of boxes that are expected, with a score well above the minimum.
        missing: Number of those that were not found.
        extra: Number of boxes well above the minimum that are not expected.
        iou_min: Lowest intersection over union of a box with the expected one. NaN if nothing was found.
        iou_mean: Its mean.
        score_max: Largest difference of a score. NaN if nothing was found.
    """

    boxes: int
    missing: int
    extra: int
    iou_min: float
    iou_mean: float
    score_max: float


def compare_detections(
    expected: Sequence[Detections], found: Sequence[Detections], *, score: float
) -> Agreement:
    """Compare the detections in each of several images.

    Args:
        expected: What counts as correct.
        found: What is compared with it.
        score: Minimum score of both.
    """
    sure = score + _MARGIN
    missing = extra = 0
    overlaps: list[float] = []
    differences: list[float] = []
    for a, b in zip(expected, found, strict=True):
        overlap = intersection_over_union(a.boxes, b.boxes)
        best = overlap.max(axis=1, initial=0.0) >= _SAME
        for row in np.flatnonzero(best & (a.scores >= sure)):
            column = int(overlap[row].argmax())
            overlaps.append(float(overlap[row, column]))
            differences.append(abs(float(a.scores[row] - b.scores[column])))
        missing += int((~best & (a.scores >= sure)).sum())
        extra += int(((overlap.max(axis=0, initial=0.0) < _SAME) & (b.scores >= sure)).sum())
    nothing = float("nan")
    return Agreement(
        len(overlaps) + missing,
        missing,
        extra,
        min(overlaps, default=nothing),
        float(np.mean(overlaps)) if overlaps else nothing,
        max(differences, default=nothing),
    )


def intersection_over_union(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the overlaps (N, M) of boxes (N, 4) and (M, 4), x1, y1, x2, y2, each in [0, 1]."""
    first, second = a[:, None].astype(np.float64), b[None].astype(np.float64)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    shared = np.clip(sides, 0, None).prod(axis=-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(axis=-1) for boxes in (first, second)]
    return np.asarray(shared / np.maximum(areas[0] + areas[1] - shared, np.finfo(np.float64).tiny))
