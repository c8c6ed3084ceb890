"""Smooth the predictions of a film over time, as in the protocol of LIRIS-ACCEDE."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WINDOW = 100  # seconds: LIRIS has one row a second
ORDER = 3


def smooth_all(values: NDArray[np.floating]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Apply the filter of `smooth_films` to all films as one series, over their borders, as the authors do.

    Args:
        values: (N, V) predictions, film by film in order of time.

    Returns:
        (N, V) smoothed values, and the name of the series if it is shorter than the window and unchanged.
    """
    return smooth_films(values, ["the series of all films"] * len(values))


def smooth_films(
    values: NDArray[np.floating], groups: Sequence[str]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Apply a Savitzky-Golay filter to each film.

    A window of 100 has no middle sample. SciPy's filter, which the protocol names, fits its cubic to the
    seconds i-49 .. i+50 and takes the value in their middle: the result for second i is that of i + 1/2. The
    published numbers were computed this way, and so are ours. Within the first and last 50 seconds the cubic
    of the first and last 100 is evaluated at the second itself (mode "interp").

    Args:
        values: (N, V) predictions.
        groups: (N,) film of each row; the rows of one film are in order of time.

    Returns:
        (N, V) smoothed values, and the films shorter than the window, whose values are unchanged.
    """
    from scipy.signal import savgol_filter  # noqa: PLC0415 - slow to import

    smoothed = np.asarray(values, np.float64).copy()
    names = np.array(groups)
    short = []
    for film in dict.fromkeys(groups):
        rows = np.flatnonzero(names == film)
        if len(rows) < WINDOW:
            short.append(film)
            continue
        smoothed[rows] = savgol_filter(smoothed[rows], WINDOW, ORDER, axis=0, mode="interp")
    return smoothed, tuple(short)
