"""Shared by the detectors: conversion of boxes to frame pixels, and non-maximum suppression."""

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.types import Detections


def to_frame(
    boxes: NDArray[np.float32], corner: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Convert boxes (N, 4) from network pixels to frame pixels.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in network pixels.
        corner: (2,) x, y of the frame's corner in the network's input.
        scale: (2,) network pixels per frame pixel; x and y differ a little, since sides are whole pixels.
    """
    points = (boxes.reshape(-1, 2, 2) - corner) / scale
    return points.reshape(-1, 4).astype(np.float32)


def non_maximum_suppression(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], *, score: float, iou: float
) -> Detections:
    """Keep the best of overlapping boxes, best first.

    Args:
        boxes: (N, 4) x1, y1, x2, y2.
        scores: (N,).
        score: Boxes with a lower score are dropped.
        iou: Boxes that overlap a better one by more than this intersection over union are dropped.
    """
    if len(boxes) == 0:
        return Detections.empty()
    corner_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = np.asarray(cv2.dnn.NMSBoxes(corner_size.tolist(), scores.tolist(), score, iou), np.int64).ravel()
    return Detections(boxes[kept], scores[kept])


def clip(detections: Detections, height: int, width: int) -> Detections:
    """Clip boxes to the frame, and drop those outside of it."""
    boxes = np.clip(detections.boxes, 0, np.array([width, height, width, height], np.float32))
    inside = (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
    return Detections(boxes[inside], detections.scores[inside])
