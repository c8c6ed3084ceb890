"""FER2013: aligned greyscale face crops, each labelled with one of seven emotions."""

import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_train.language.labels import ekman_index

Split = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class Faces:
    """Faces of one split.

    Attributes:
        images: (N, 48, 48) uint8 greyscale.
        labels: (N,) int64, positions in `EKMAN`.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> "Faces":
        """Return the faces of the given rows."""
        return Faces(self.images[rows], self.labels[rows])


def load_faces(path: Path, split: Split) -> Faces:
    """Load one split of the archive `fer2013.npz`.

    Args:
        path: The archive.
        split: The split.

    Raises:
        EmotionError: The archive is missing or has another format.
    """
    if not path.is_file():
        raise EmotionError(
            f"FER2013 archive not found at {path}: --data must be the folder that contains data/fer2013.npz"
        )
    try:
        with np.load(path) as archive:
            encoded, offsets = archive[f"{split}_bytes"], archive[f"{split}_offsets"]
            classes = np.array([ekman_index(str(name)) for name in archive["classes"]])
            labels = classes[archive[f"{split}_labels"]]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise EmotionError(
            f"{path} is not the FER2013 archive ({error}): expected {split}_bytes, {split}_offsets, "
            f"{split}_labels and classes in an .npz"
        ) from error
    images = np.stack(
        [
            np.asarray(cv2.imdecode(encoded[start:stop], cv2.IMREAD_GRAYSCALE), np.uint8)
            for start, stop in pairwise(offsets)
        ]
    )
    return Faces(images, labels.astype(np.int64))


def class_weights(counts: NDArray[np.int64], power: float = 0.5) -> NDArray[np.float64]:
    """Return the probability of drawing each class, proportional to count ** power.

    Args:
        counts: (C,) int64, rows of each class.
        power: 1 keeps the frequencies of the data, 0 draws all classes equally often.
    """
    weights = counts.astype(np.float64) ** power
    return np.asarray(weights / weights.sum())
