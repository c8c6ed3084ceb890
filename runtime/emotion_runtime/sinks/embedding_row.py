"""One row of a file of embeddings."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.types import Box


@dataclass(frozen=True, slots=True)
class EmbeddingRow:
    """One person at one time.

    Attributes:
        source: Name of the source.
        frame: Number of the frame in its source, from 0.
        t: Seconds of media time.
        time: Time of capture in seconds since 1970 (UTC); NaN where it is not known.
        id: The person's id, unique within the source.
        label: The shown label; empty if there is none.
        why: Why there is no label; empty if there is one.
        box: (x1, y1, x2, y2) in frame pixels.
        probabilities: (C,) float32 in the order of the labels, smoothed over time.
        embedding: (D,) float32 of length 1: the feature of the person's clip, which the heads read.
    """

    source: str
    frame: int
    t: float
    time: float
    id: int
    label: str
    why: str
    box: Box
    probabilities: NDArray[np.float32]
    embedding: NDArray[np.float32]
