"""Turn the boxes of people into patch weights: the fraction of each patch of a window that they cover.

The subject's mask never exists as an image: the encoder only needs the covered fraction of each patch
(subject-aware prompting, paper Sec. 3.3, in the soft form of the released weights).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.preprocess.spec import PreprocessSpec
from emotion_runtime.preprocess.windows import Window


def patch_weights(box_xyxy: Sequence[float], window: Window, spec: PreprocessSpec) -> NDArray[np.float32]:
    """Return the fraction of each patch that the person's box covers.

    The box is widened to whole input pixels (floor, ceil) and clipped to the window, like the official masks;
    an empty intersection gives zeros. Source: paper Sec. 3.3 (SAP), soft form.

    Args:
        box_xyxy: (x1, y1, x2, y2) in frame pixels.
        window: The window that the person is seen in.
        spec: Preprocessing of the model.

    Returns:
        (G,) float32 in [0, 1], row by row.
    """
    x1, y1, x2, y2 = box_xyxy
    across = _covered(x1 * window.scale - window.left, x2 * window.scale - window.left, spec)
    down = _covered(y1 * window.scale - window.top, y2 * window.scale - window.top, spec)
    return np.outer(down, across).ravel().astype(np.float32)


def union_patch_weights(
    boxes_xyxy: Sequence[Sequence[float]], window: Window, spec: PreprocessSpec
) -> NDArray[np.float32]:
    """Return the fraction of each patch that several persons' boxes cover together, as the authors trained.

    Args:
        boxes_xyxy: Any number of (x1, y1, x2, y2) in frame pixels, each widened and clipped as in
            `patch_weights`.
        window: The window that the persons are seen in.
        spec: Preprocessing of the model.

    Returns:
        (G,) float32 in [0, 1], row by row; zeros without a box.
    """
    if len(boxes_xyxy) == 1:
        return patch_weights(boxes_xyxy[0], window, spec)
    covered = np.zeros((spec.size, spec.size), np.float32)
    for x1, y1, x2, y2 in boxes_xyxy:
        left, right = _pixels(x1 * window.scale - window.left, x2 * window.scale - window.left, spec)
        top, bottom = _pixels(y1 * window.scale - window.top, y2 * window.scale - window.top, spec)
        covered[top:bottom, left:right] = 1
    # Sums over patches as matrix products: exact for whole numbers, and faster than a mean over axes.
    members = np.repeat(np.eye(spec.side_patches, dtype=np.float32), spec.patch, axis=1)
    fractions = (members @ covered @ members.T).ravel() / spec.patch**2
    return fractions.astype(np.float32)


def _pixels(start: float, stop: float, spec: PreprocessSpec) -> tuple[int, int]:
    """Whole input pixels from start to stop, inside the window."""
    return min(max(math.floor(start), 0), spec.size), min(max(math.ceil(stop), 0), spec.size)


def _covered(start: float, stop: float, spec: PreprocessSpec) -> list[float]:
    """Return the covered fraction of each patch along one axis; start and stop are in input pixels."""
    low, high = _pixels(start, stop, spec)
    # In plain Python: for so few numbers, arrays would take four times as long.
    edges = range(0, spec.size, spec.patch)
    return [max(min(high, edge + spec.patch) - max(low, edge), 0) / spec.patch for edge in edges]
