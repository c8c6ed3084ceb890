"""What the detectors share: from a network's boxes to the frame's, and non-maximum suppression."""

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.types import Detections


def to_frame(
    boxes: NDArray[np.float32], corner: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Boxes (N, 4) from network pixels to frame pixels.

    corner: (2,) x, y of the frame's corner in the network's input. scale: (2,) network pixels per frame
    pixel; sides are rounded to whole pixels, so x and y differ a little.
    """
    points = (boxes.reshape(-1, 2, 2) - corner) / scale
    return points.reshape(-1, 4).astype(np.float32)


def suppress(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], *, score: float, iou: float
) -> Detections:
    """The best of overlapping boxes, best first.

    boxes: (N, 4) x1, y1, x2, y2. scores: (N,). Those under `score` go, and those that overlap a better
    one by more than `iou`.
    """
    if len(boxes) == 0:
        return Detections.empty()
    corner_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = np.asarray(cv2.dnn.NMSBoxes(corner_size.tolist(), scores.tolist(), score, iou), np.int64).ravel()
    return Detections(boxes[kept], scores[kept])


def clip(detections: Detections, height: int, width: int) -> Detections:
    """Boxes cut to the frame; those that lie outside of it go."""
    boxes = np.clip(detections.boxes, 0, np.array([width, height, width, height], np.float32))
    inside = (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
    return Detections(boxes[inside], detections.scores[inside])
