"""Whether two backends give the same."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import Outputs


def lowest_cosine(expected: Outputs, found: Outputs) -> float:
    """The least cosine between rows of the same place in two sets of outputs, (P, D) each.

    NaN where a value is not finite. Two rows of zeros agree.
    """
    rows = [cosines(expected[name], found[name]) for name in expected]
    return float(np.min(np.concatenate(rows)))


def cosines(expected: NDArray[Any], found: NDArray[Any]) -> NDArray[np.float64]:
    """(P, D), (P, D) -> (P,); see `lowest_cosine`."""
    a, b = expected.astype(np.float64), found.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    nothing = ~a.any(axis=1) & ~b.any(axis=1)
    return np.where(nothing, 1.0, cosine)
