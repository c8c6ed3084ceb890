"""Shared by the detectors: conversion of boxes to frame pixels, and non-maximum suppression."""

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.types import Detections


def to_frame(
    points: NDArray[np.float32], corner: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Convert boxes or other rows of points from network pixels to frame pixels.

    Args:
        points: (N, 2 K), pairs of x and y in network pixels.
        corner: (2,) x, y of the frame's corner in the network's input.
        scale: (2,) network pixels per frame pixel; x and y differ a little, since sides are whole pixels.
    """
    pairs = (points.reshape(len(points), points.shape[1] // 2, 2) - corner) / scale
    return pairs.reshape(points.shape).astype(np.float32)


def non_maximum_suppression(detections: Detections, *, score: float, iou: float) -> Detections:
    """Keep the best of overlapping boxes, best first.

    Args:
        detections: Detections in any order.
        score: Boxes with a lower score are dropped.
        iou: Boxes that overlap a better one by more than this intersection over union are dropped.
    """
    boxes = detections.boxes
    if len(boxes) == 0:
        return detections
    corner_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = np.asarray(
        cv2.dnn.NMSBoxes(corner_size.tolist(), detections.scores.tolist(), score, iou), np.int64
    )
    return detections.take(kept.ravel())


def clip(detections: Detections, height: int, width: int) -> Detections:
    """Clip boxes to the frame, and drop those outside of it. Boxes of heads are not clipped."""
    boxes = np.clip(detections.boxes, 0, np.array([width, height, width, height], np.float32))
    inside = (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
    return replace(detections, boxes=boxes).take(inside)


def in_view(detections: Detections, height: int, width: int) -> Detections:
    """Drop boxes that are empty or outside the frame, and shorten those that reach far beyond it.

    No box reaches further beyond an edge than the frame is long, so that a crop around it stays small.
    """
    size = np.array([width, height], np.float32)
    low, high = detections.boxes[:, :2], detections.boxes[:, 2:]
    inside = np.all(np.minimum(high, size) > np.maximum(low, 0), axis=1)
    boxes = np.clip(detections.boxes, np.tile(-size, 2), np.tile(2 * size, 2))
    return replace(detections, boxes=boxes).take(inside)
