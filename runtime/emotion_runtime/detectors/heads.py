"""Find the heads of people whose whole body was detected."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.types import Detections, Track

HeadFinder = Callable[[NDArray[np.uint8], Sequence[Track]], list[Track | None]]

_SIZE = 160  # pixels; long side of the image that each person's upper part becomes for the network
_SCORE = 0.4  # of a face; on backs of heads, scores are lower
_UPPER = 0.55  # fraction of the height of a person's box in which the head is
_MARGIN = 0.1  # around the box, in widths of it: a head may reach beyond


class HeadsOfPersons:
    """Finds the head of each person in the upper part of the person's box, with one small run of CenterFace.

    Args:
        threads: Number of ONNX Runtime's threads. 0: as many as the encoders have.
    """

    def __init__(self, *, threads: int = 0) -> None:
        self._faces = CenterFace(threads=threads, score=_SCORE, long_side=_SIZE)

    def __call__(self, image_bgr: NDArray[np.uint8], tracks: Sequence[Track]) -> list[Track | None]:
        """Return each person with the head and its landmarks; None if no face is visible.

        Args:
            image_bgr: (H, W, 3) uint8 BGR, the frame.
            tracks: The persons, with boxes of their whole bodies.
        """
        return [self._with_head(image_bgr, track) for track in tracks]

    def _with_head(self, image_bgr: NDArray[np.uint8], track: Track) -> Track | None:
        height, width = image_bgr.shape[:2]
        x1, y1, x2, y2 = track.box
        margin = _MARGIN * (x2 - x1)
        left, right = max(int(x1 - margin), 0), min(int(x2 + margin) + 1, width)
        top, bottom = max(int(y1 - margin), 0), min(int(y1 + _UPPER * (y2 - y1)) + 1, height)
        if right <= left or bottom <= top:
            return None
        found = self._faces(image_bgr[top:bottom, left:right])
        middle = (found.boxes[:, 0] + found.boxes[:, 2]) / 2 + left
        own = np.flatnonzero((middle >= x1) & (middle <= x2))  # others are of people beside
        if not len(own) or found.heads is None or found.landmarks is None:
            return None
        shift = np.array([left, top], np.float32)
        moved = Detections(
            found.boxes, found.scores, found.landmarks + shift, found.heads + np.tile(shift, 2)
        ).track(int(own[0]), track.id)
        return replace(track, landmarks=moved.landmarks, head=moved.head)
