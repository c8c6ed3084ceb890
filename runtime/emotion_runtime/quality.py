"""Measure how well the head of a person can be seen."""

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.types import Quality, Track


def measure_quality(image_bgr: NDArray[np.uint8], track: Track) -> Quality:  # noqa: ARG001 - sharpness follows
    """Return the quality of the view of a person.

    Args:
        image_bgr: (H, W, 3) uint8 BGR, the frame.
        track: The person, with a box in frame pixels.
    """
    x1, _, x2, _ = track.box
    return Quality(head_px=x2 - x1)
