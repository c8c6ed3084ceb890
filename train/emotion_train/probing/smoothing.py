"""Predictions of a film smoothed over time, as the protocol of LIRIS-ACCEDE has it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WINDOW = 100  # seconds: LIRIS has one row a second
ORDER = 3


def smooth_films(
    values: NDArray[np.floating], groups: Sequence[str]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Savitzky-Golay over each film: values (N, V), rows of one group in order of time.

    Returns the smoothed values and the films shorter than the window, whose values stay as they are.

    A window of 100 has no middle sample. scipy's filter, which the protocol names, fits its cubic to the
    seconds i-49 .. i+50 of second i and takes the value in their middle, i + 1/2: what it returns is the
    film half a second later. That is what was published, and what is done here; within the first and
    last 50 seconds the cubic of the first and last 100 is read at the second itself (mode "interp").
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
