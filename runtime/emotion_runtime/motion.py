"""Predict where a person's box is some time after the latest detection, from how it moved before.

The centre moves with constant velocity that fades, since people slow down more often than they speed up.
Width and height change likewise, as those of somebody who approaches, or who leaves the frame at an edge.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.types import Box, Track

Rates = NDArray[np.float64]  # (4,): change of centre x, centre y, width and height, in pixels per second

# Time constants in seconds: of the smoothing of measured velocities and changes of size, and of the fading.
_VELOCITY_SECONDS, _SIZE_SECONDS = 0.3, 1.0
COAST_SECONDS = 2.0
# Seconds that the first measurement counts with at least: frames that a server sends all at once come a
# millisecond apart, and a box that trembles by two pixels would seem to fly away.
_LEAST_ELAPSED = 0.01
_LARGEST_CHANGE = 1.5  # factor by which the predicted size differs at most from the detected one


def measured(before: Box, after: Box, elapsed: float, rates: Rates | None) -> Rates:
    """Return the rates of change after a detection.

    Args:
        before: Box of the detection before.
        after: Box of the detection.
        elapsed: Seconds between them, more than 0.
        rates: The rates so far. None: not known.
    """
    change = _center_and_size(after) - _center_and_size(before)
    if rates is None:
        return change / max(elapsed, _LEAST_ELAPSED)
    step = change / elapsed
    velocity, size = (1 - math.exp(-elapsed / seconds) for seconds in (_VELOCITY_SECONDS, _SIZE_SECONDS))
    return np.asarray(rates + np.array([velocity, velocity, size, size]) * (step - rates))


def coasted(elapsed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the seconds at full speed in which a person moves as far as in these seconds, fading."""
    return np.asarray(COAST_SECONDS * -np.expm1(-elapsed / COAST_SECONDS))


def predicted(track: Track, rates: Rates, elapsed: float) -> Track:
    """Return a track with the box, head and landmarks where they are expected some seconds later.

    Args:
        track: The track at its latest detection.
        rates: See `measured`.
        elapsed: Seconds since then.
    """
    seconds = float(coasted(np.array(elapsed)))
    # Plain numbers: arrays of two take ten times as long.
    center_x, center_y, width, height = _center_and_size(track.box).tolist()
    speed_x, speed_y, wider, higher = (rates * seconds).tolist()
    change_x, change_y = _change(wider, width), _change(higher, height)

    def moved(x: float, y: float) -> tuple[float, float]:
        return (
            (x - center_x) * change_x + center_x + speed_x,
            (y - center_y) * change_y + center_y + speed_y,
        )

    return replace(
        track,
        box=(*moved(*track.box[:2]), *moved(*track.box[2:])),
        head=None if track.head is None else (*moved(*track.head[:2]), *moved(*track.head[2:])),
        landmarks=None if track.landmarks is None else tuple(moved(*point) for point in track.landmarks),
    )


def _change(growth: float, side: float) -> float:
    """Return the factor by which a side changes that grows by some pixels."""
    return min(max(1 + growth / max(side, 1e-6), 1 / _LARGEST_CHANGE), _LARGEST_CHANGE)


def drift(box: Box, rates: Rates, elapsed: float) -> float:
    """Return how far a box is expected to move, or to change its size, in some seconds, in widths of it."""
    width = max(box[2] - box[0], 1e-6)
    moved = max(float(np.linalg.norm(rates[:2])), abs(float(rates[2])))
    return moved * elapsed / width


def _center_and_size(box: Box) -> NDArray[np.float64]:
    x1, y1, x2, y2 = box
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])
