"""Measure how well the head of a person can be seen, and decide whether that is enough for a label."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.manifest import QualityLimits
from emotion_runtime.types import Box, Landmarks, Quality, Track, Why

# The face within the box of a head, in widths and heights of that box; see `detectors.centerface.head_box`.
_FACE_LEFT, _FACE_RIGHT, _FACE_TOP, _FACE_BOTTOM = 1 / 6, 5 / 6, 0.22, 0.96
_FACE_WIDTH = 40  # pixels to which larger faces are shrunk, so that sharpness does not depend on their size
_LEAST_SIDE = 4  # pixels; smaller faces have no sharpness
_BLUR = 5  # pixels; side of the box filter that sharpness is measured with
# Fraction of the differences between neighbouring pixels that the filter removes, of blurred and sharp faces.
_BLURRED, _SHARP = 0.1, 0.6


# Of a person whose head was looked for and not found: a back, or a face that something covers.
NO_HEAD = Quality(head_px=0.0, inside=0.0, frontal=0.0)


def why_not(quality: Quality, limits: QualityLimits) -> Why | None:
    """Return why a view of a person is not good enough for a label; None if it is, or was not measured.

    Args:
        quality: The quality of the view.
        limits: Those of the bundle.
    """
    if quality.frontal is not None and quality.frontal < limits.frontal:
        return "turned away"
    if quality.head_px < limits.head_px:
        return "small"
    if quality.inside < limits.inside:
        return "cut"
    if quality.sharpness is not None and quality.sharpness < limits.sharpness:
        return "blurred"
    return None


def measure_quality(image_bgr: NDArray[np.uint8], track: Track) -> Quality:
    """Return the quality of the view of a person.

    Args:
        image_bgr: (H, W, 3) uint8 BGR, the frame.
        track: The person. Without a box of the head, the box of the person is taken for it.
    """
    x1, y1, x2, y2 = track.head or track.box
    height, width = image_bgr.shape[:2]
    across, down = max(min(x2, width) - max(x1, 0), 0), max(min(y2, height) - max(y1, 0), 0)
    area = (x2 - x1) * (y2 - y1)
    return Quality(
        head_px=x2 - x1,
        sharpness=sharpness(image_bgr, track.head) if track.head else None,
        inside=min(across * down / area, 1.0) if area > 0 else 0.0,
        frontal=frontality(track.landmarks) if track.landmarks else None,
        roll_deg=roll(track.landmarks) if track.landmarks else None,
    )


def roll(landmarks: Landmarks) -> float:
    """Return how far a head is tilted to a side, in degrees, positive if it turns clockwise in the image.

    This is the direction from the middle of the eyes to that of the mouth. CenterFace turns the line through
    the eyes by only two thirds of a tilt of 40 degrees, but this one by all of it.
    """
    right_eye, left_eye, _, right_mouth, left_mouth = np.array(landmarks, np.float64)
    across, down = (right_mouth + left_mouth) - (right_eye + left_eye)
    return math.degrees(math.atan2(0.0 - across, down))


def frontality(landmarks: Landmarks) -> float:
    """Return how far a head faces the camera, by where its nose is seen between the eyes.

    The nose lies in front of the other landmarks, so that it moves aside when the head turns: 1 is a nose on
    the line from the middle of the eyes to the middle of the mouth, 0 a nose as far aside as an eye, or
    further. Nodding does not count.
    """
    right_eye, left_eye, nose, right_mouth, left_mouth = np.array(landmarks, np.float64)
    eyes, mouth = (right_eye + left_eye) / 2, (right_mouth + left_mouth) / 2
    aside, down = left_eye - eyes, mouth - eyes
    area = aside[0] * down[1] - aside[1] * down[0]
    if abs(area) < 1e-6:  # the points lie on a line
        return 0.0
    offset = ((nose - eyes)[0] * down[1] - (nose - eyes)[1] * down[0]) / area
    return float(max(1 - abs(offset), 0.0))


def sharpness(image_bgr: NDArray[np.uint8], head: Box) -> float | None:
    """Return the sharpness of a face: how much of its detail a slight blur removes.

    A blur takes much from a sharp face and little from a blurred one, whatever their contrast. The direction
    with less detail counts, so that motion blur is found as well. Larger faces are shrunk to 40 pixels.

    Source: Crete et al., "The Blur Effect: Perception and Estimation with a New No-Reference Perceptual Blur
    Metric", 2007.

    Args:
        image_bgr: (H, W, 3) uint8 BGR, the frame.
        head: Box of the head, which may reach beyond the frame.

    Returns:
        From 0 (blurred) to 1 (sharp); None if there are too few pixels inside the frame.
    """
    height, width = image_bgr.shape[:2]
    x1, y1, x2, y2 = head
    left, right = (round(x1 + part * (x2 - x1)) for part in (_FACE_LEFT, _FACE_RIGHT))
    top, bottom = (round(y1 + part * (y2 - y1)) for part in (_FACE_TOP, _FACE_BOTTOM))
    face = image_bgr[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    if min(face.shape[:2]) < _LEAST_SIDE:
        return None
    fit = min(_FACE_WIDTH / (right - left), 1.0)
    rows, columns = (max(round(side * fit), _LEAST_SIDE) for side in face.shape[:2])
    small = cv2.resize(cv2.cvtColor(face, cv2.COLOR_BGR2GRAY), (columns, rows), interpolation=cv2.INTER_AREA)
    grey = np.asarray(small, np.float32)
    removed = min(_removed(grey, axis=0), _removed(grey, axis=1))
    return float(np.clip((removed - _BLURRED) / (_SHARP - _BLURRED), 0, 1))


def _removed(grey: NDArray[np.float32], *, axis: int) -> float:
    """Return the fraction of the differences along an axis that a blur along it removes."""
    blurred = cv2.blur(grey, (1, _BLUR) if axis == 0 else (_BLUR, 1))
    later, earlier = (np.s_[1:], np.s_[:-1]) if axis == 0 else (np.s_[:, 1:], np.s_[:, :-1])
    before, after = np.abs(grey[later] - grey[earlier]), np.abs(blurred[later] - blurred[earlier])
    total = float(before.sum())
    return float(np.maximum(before - after, 0).sum()) / total if total else 0.0
