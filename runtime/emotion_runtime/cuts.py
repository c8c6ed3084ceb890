"""Find scene cuts: frames that show another scene than the one before.

Two cues must agree. The colours tell different places apart, but also change with the light; the pattern of
light and dark survives a change of brightness, but not a fast pan. Both differ the more the longer the time
between two frames is, so the limits fall with it.
"""

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.vectors import standardise

_WIDTH, _HEIGHT = 64, 36  # pixels of the thumbnail
_HUES = 15  # OpenCV's hues in one of the 12 bins of hue; saturation and value have four each
_FLAT = 2.0  # grey levels; standard deviation below which an image has no pattern
# Limits of the overlap of the colours and of the correlation of the patterns: at once, and after a second.
_COLORS_AT_ONCE, _COLORS_LATER = 0.7, 0.4
_PATTERN_AT_ONCE, _PATTERN_LATER = 0.6, 0.35


class CutDetector:
    """Compares each frame of one source with the one before it."""

    def __init__(self) -> None:
        self._colors: NDArray[np.float32] | None = None
        self._pattern: NDArray[np.float32] | None = None

    def cut(self, image_bgr: NDArray[np.uint8], elapsed: float) -> bool:
        """Return whether a scene begins with this frame; False for the first frame.

        Args:
            image_bgr: (H, W, 3) uint8 BGR.
            elapsed: Seconds since the previous frame.
        """
        colors, pattern = _describe(image_bgr)
        if pattern is None:
            return False  # black or of one colour: the next frame is compared with the one before this
        before_colors, before_pattern = self._colors, self._pattern
        self._colors, self._pattern = colors, pattern
        if before_colors is None or before_pattern is None:
            return False
        overlap = float(np.minimum(before_colors, colors).sum())
        correlation = float((before_pattern * pattern).mean())
        later = min(elapsed, 1.0)
        return overlap < _COLORS_AT_ONCE + later * (
            _COLORS_LATER - _COLORS_AT_ONCE
        ) and correlation < _PATTERN_AT_ONCE + later * (_PATTERN_LATER - _PATTERN_AT_ONCE)


@functools.lru_cache(maxsize=64)
def _grid(height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows and columns of the pixels that are looked at, for a frame of this size.

    Averages over all pixels of a 4K frame would take several milliseconds.
    """
    rows, columns = (np.linspace(0, side - 1, 2 * n) for side, n in ((height, _HEIGHT), (width, _WIDTH)))
    return rows.astype(np.int64), columns.astype(np.int64)


def _describe(image_bgr: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return the fraction of pixels of each colour, and the pattern (36, 64) with mean 0 and deviation 1.

    The pattern of an image of one colour is None.
    """
    rows, columns = _grid(*image_bgr.shape[:2])
    # Whole rows first: choosing rows and columns in one step takes three times as long.
    points = image_bgr[rows].take(columns, axis=1)
    small = cv2.resize(points, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)
    hsv = cv2.cvtColor(small, cv2.COLOR_BGR2HSV)
    ranges = (0, 12 * _HUES, 0, 256, 0, 256)
    counts = cv2.calcHist([hsv], (0, 1, 2), None, (12, 4, 4), ranges).ravel().astype(np.float64)
    pattern = standardise(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32), least=_FLAT)
    return np.asarray(counts / counts.sum(), np.float32), pattern
