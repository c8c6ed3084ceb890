"""Lengths and angles of embeddings, computed in float64, and patterns of thumbnails."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_TINY = 1e-12  # keeps a vector of zeros at zeros


def l2_normalise(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Scale each row of (P, D) to length 1; a row of zeros stays as it is."""
    wide = vectors.astype(np.float64)
    unit: NDArray[np.float64] = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), _TINY)
    return unit


def cosine_similarity(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the cosine between rows in the same place, (P, D) and (P, D) -> (P,).

    It is 1 for two rows of zeros, and NaN where one row is zeros or has a value that is not finite: a parity
    check must not overlook these.
    """
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        lengths = np.linalg.norm(wide_a, axis=1) * np.linalg.norm(wide_b, axis=1)
        cosine = (wide_a * wide_b).sum(axis=1) / lengths
    both_zero = ~wide_a.any(axis=1) & ~wide_b.any(axis=1)
    return np.where(both_zero, 1.0, cosine)


def standardise(values: NDArray[np.float32], *, least: float) -> NDArray[np.float32] | None:
    """Return values of any shape with mean 0 and deviation 1; None unless their deviation exceeds `least`."""
    centered = values - values.mean()
    deviation = float(np.sqrt(np.square(centered).mean()))  # as `std`, which would take the mean again
    return np.asarray(centered / deviation, np.float32) if deviation > least else None
