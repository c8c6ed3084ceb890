"""Notice that a live source delivers images that are of no use: frozen or black ones, or far too few."""

import math
from collections import deque
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

ImageFault = Literal["frozen", "black"]

_PERIOD = 0.1  # seconds between two images that are looked at
_SAMPLE = 1 << 17  # bytes of an image that are compared; rows are left out beyond
_VARIANTS = 32  # different images that a frozen one may turn into: encoders refine it after each key frame
_NEARLY = 12  # grey levels by which no part of these differs; a person who moves makes a larger difference
_BLACK = 3  # grey levels that no part of a black image exceeds
_PART = 16  # pixels from left to right that are one part

_WINDOW = 5.0  # seconds over which the rate is measured
_FORGET = 300.0  # seconds after which a lower rate is the usual one
_SLOW = 0.25  # part of the usual rate


class ImageWatch:
    """Finds frozen and black images.

    An image is frozen if for some time each one is an exact copy of one before, and all are nearly the same.
    A still scene is not: the noise of its sensor makes every image a new one, also in the dark.

    Args:
        seconds: Time after which images count as frozen or black; 0: never.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.restart()
        self._reference: NDArray[np.uint8] = np.zeros((0, 0, 3), np.uint8)
        self._seen: deque[int] = deque(maxlen=_VARIANTS)
        self._new_since = self._bright_since = 0.0

    def restart(self) -> None:
        """Leave out the time before the next image, in which there was no connection."""
        self._looked: float | None = None
        self._fault: ImageFault | None = None

    def look(self, image: NDArray[np.uint8], now: float) -> ImageFault | None:
        """Return what is wrong with an image, as of now.

        Args:
            image: (H, W, 3) uint8 BGR.
            now: Time in seconds, not decreasing.
        """
        if not self._seconds or (self._looked is not None and now - self._looked < _PERIOD):
            return self._fault
        if self._looked is None:
            self._new_since = self._bright_since = now
        self._looked = now
        step = max(1, math.ceil(image.nbytes / _SAMPLE))
        sample = np.ascontiguousarray(image[step // 2 :: step] if step < len(image) else image)
        height, width = sample.shape[:2]
        parts = cv2.resize(sample, (max(1, width // _PART), height), interpolation=cv2.INTER_AREA)
        if self._is_new(hash(sample.tobytes()), np.asarray(parts)):
            self._new_since = now
        if parts.max() > _BLACK:
            self._bright_since = now
        if now - self._bright_since >= self._seconds:
            self._fault = "black"
        else:
            self._fault = "frozen" if now - self._new_since >= self._seconds else None
        return self._fault

    def _is_new(self, key: int, parts: NDArray[np.uint8]) -> bool:
        """Return whether an image is none of those before, and remember it.

        Args:
            key: Hash of the image.
            parts: (rows, columns, 3) means of its parts.
        """
        if self._seen and key == self._seen[-1]:
            return False
        if parts.shape != self._reference.shape or cv2.absdiff(parts, self._reference).max() > _NEARLY:
            self._reference = parts
            self._seen.clear()
        elif key in self._seen:
            return False
        self._seen.append(key)
        return True


class RateWatch:
    """Notices that images come at a small part of the usual rate."""

    def __init__(self) -> None:
        self._usual = 0.0
        self._start: float | None = None
        self._count = 0
        self._reason: str | None = None

    def restart(self) -> None:
        """Leave out the time in which there was no connection."""
        self._start = None

    def count(self, now: float) -> str | None:
        """Count an image that arrived now, in seconds; return what is wrong, in words."""
        if self._start is None:
            self._start, self._count = now, 0
            return self._reason
        self._count += 1
        seconds = now - self._start
        if seconds >= _WINDOW:
            rate = self._count / seconds
            usual = max(rate, rate + (self._usual - rate) * math.exp(-seconds / _FORGET))
            self._start, self._count, self._usual = now, 0, usual
            if rate >= _SLOW * usual:
                self._reason = None
            elif self._reason is None:
                self._reason = (
                    f"{rate:.2g} images per second, usually {usual:.2g}; check its network and its exposure"
                )
        return self._reason
