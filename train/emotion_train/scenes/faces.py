"""FER2013: tight grey faces with one of seven emotions."""

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
    """Faces of one split. images: (N, 48, 48) uint8 grey. labels: (N,) int64, positions in `EKMAN`."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> "Faces":
        """The given rows."""
        return Faces(self.images[rows], self.labels[rows])


def load_faces(path: Path, split: Split) -> Faces:
    """Faces of one split of the archive `fer2013.npz`.

    Raises:
        EmotionError: the archive is missing or not what it should be.

    """
    if not path.is_file():
        raise EmotionError(f"no FER2013 archive at {path}: give its folder's parent as --data")
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
    """Probability of drawing each class: proportional to count ** power (1 as is, 0 balanced)."""
    weights = counts.astype(np.float64) ** power
    return np.asarray(weights / weights.sum())
