"""The order of the clips in an epoch, computed for the clips that are wanted instead of for all."""

import numpy as np
from numpy.typing import NDArray

_ROUNDS = 8


def shuffled(positions: NDArray[np.int64], count: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    """Return what a shuffle of 0 .. count - 1 puts at some positions.

    A stored permutation of a million clips would take 8 MB in every worker; this needs no memory. It is a
    Feistel network over the next even power of two, applied until the result is in range (Black and Rogaway,
    2002).

    Args:
        positions: (N,) int64 in 0 .. count - 1.
        count: Number of elements.
        seed: Of the shuffle.

    Returns:
        (N,) int64 in 0 .. count - 1; all positions together give each number once.
    """
    half = np.uint64(((count - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << int(half)) - 1)
    keys = np.random.default_rng(list(seed)).integers(0, 2**63, _ROUNDS, np.uint64)
    values = positions.astype(np.uint64)
    outside = np.ones(len(values), np.bool_)
    while outside.any():
        left, right = values[outside] >> half, values[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right + key) & mask)
        values[outside] = left << half | right
        outside = values >= np.uint64(count)
    return values.astype(np.int64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return well-mixed bits of each value (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
