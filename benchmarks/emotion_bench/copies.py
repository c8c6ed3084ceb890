"""Faces of a test set that show the same photograph as a known one: cropped, compressed or mirrored anew."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

SAME = 0.92  # correlation from which on two crops almost always show the same photograph
_SHIFTS = (-2, 0, 2)  # pixels
_ROWS = 256  # images that are compared at a time


def likeness(images: NDArray[np.uint8], known: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the highest correlation of the pixels of each image with those of any known one.

    Args:
        images: (N, S, S), each also moved by two pixels and mirrored.
        known: (M, S, S).

    Returns:
        (N,) in [-1, 1].
    """
    side, margin = images.shape[1], max(_SHIFTS)
    reference = _normalised(known).T
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin)), "edge")
    best = np.full(len(images), -1, np.float32)
    for step, down, across in product((1, -1), _SHIFTS, _SHIFTS):
        top, left = margin + down, margin + across
        moved = _normalised(padded[:, top : top + side, left : left + side][:, :, ::step])
        for start in range(0, len(moved), _ROWS):
            rows = slice(start, start + _ROWS)
            best[rows] = np.maximum(best[rows], (moved[rows] @ reference).max(axis=1))
    return best


def _normalised(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return vectors (N, S * S) of mean 0 and length 1, whose products are correlations."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6))
