"""Suspect that another person has taken the place of one: by the look of the head and by embeddings."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.manifest import SwapLimits
from emotion_runtime.types import Box
from emotion_runtime.vectors import l2_normalise, standardise

COMPARED = 4  # latest embeddings of a person that a new one is compared with
_SIDE = 12  # pixels of the thumbnail of a head
_OTHER_LOOK = 0.6  # correlation of two thumbnails, below which they look like different heads
LOOK_SECONDS = 0.5  # a look older than this says nothing: heads turn
GAP_SECONDS = 0.3  # somebody may have changed places with a person who was not seen for longer than this

CROWDED_SECONDS = 0.8  # after somebody else's box overlapped, the embeddings before it may be of both


def look(image_bgr: NDArray[np.uint8], box: Box) -> NDArray[np.float32] | None:
    """Return a thumbnail of a head with mean 0 and deviation 1, (12, 12); None if there is nothing to see."""
    height, width = image_bgr.shape[:2]
    x1, y1, x2, y2 = (round(side) for side in box)
    head = image_bgr[max(y1, 0) : min(y2, height), max(x1, 0) : min(x2, width)]
    if min(head.shape[:2]) < 2:
        return None
    small = cv2.resize(head, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return standardise(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32), least=1.0)


def looks_different(before: NDArray[np.float32], after: NDArray[np.float32]) -> bool:
    """Return whether two looks are unlikely to be of one head."""
    return float((before * after).mean()) < _OTHER_LOOK


def similarity(embedding: NDArray[np.float32], recent: Sequence[NDArray[np.float32]]) -> float:
    """Return the largest cosine between a new embedding (D,) and recent ones; 1 if there are none."""
    if not recent:
        return 1.0
    return float((l2_normalise(np.stack(recent)) @ l2_normalise(embedding[None])[0]).max())


def is_swap(cosine: float, limits: SwapLimits, *, suspicious: bool) -> bool:
    """Return whether an embedding belongs to another person than those before it.

    Args:
        cosine: Its `similarity` to them.
        limits: The bundle's limits.
        suspicious: There is another reason to think so: the head looks different, or was not seen for a time.
    """
    return cosine < (limits.suspicious if suspicious else limits.always)
