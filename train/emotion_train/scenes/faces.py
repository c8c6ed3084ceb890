"""FER2013: aligned greyscale face crops, each labelled with one of seven emotions and rated by ten people.

The ratings are the votes of FER+ (Barsoum et al. 2016, MIT licence). The one label of FER2013 equals what
most of these people see for only 64 % of the faces, so the votes are what a model learns and is measured on.
"""

import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_train.language.labels import EKMAN, ekman_index

Split = Literal["train", "val", "test"]

FACES_FILE = Path("data", "fer2013_plus.npz")  # below the folder that `--data` names
_NO_CLASS = ("contempt", "unknown", "NF")  # votes for none of the seven; NF: not a face
_NOT_A_FACE = ("unknown", "NF")


@dataclass(frozen=True, slots=True)
class Faces:
    """Faces of one split.

    Attributes:
        images: (N, 48, 48) uint8 greyscale.
        labels: (N,) int64, positions in `EKMAN`.
        votes: (N, 7) float32 in `EKMAN` order, rows that sum to 1: how the votes for the seven emotions are
            distributed.
        clear: (N,) bool, whether more than half of all votes are for the same one of the seven emotions.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    votes: NDArray[np.float32]
    clear: NDArray[np.bool_]

    @classmethod
    def of_labels(cls, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> "Faces":
        """Return faces that nobody voted on: all votes are for the label."""
        return cls(images, labels, one_hot(labels), np.ones(len(labels), np.bool_))

    @property
    def majority(self) -> NDArray[np.int64]:
        """The emotion with the most votes, (N,) positions in `EKMAN`; of equal ones the first."""
        return np.asarray(self.votes.argmax(axis=1), np.int64)

    def by_majority(self) -> "Faces":
        """Return the faces with the emotion that most people see as the label."""
        return Faces(self.images, self.majority, self.votes, self.clear)

    def take(self, rows: NDArray[np.int64]) -> "Faces":
        """Return the faces of the given rows."""
        return Faces(self.images[rows], self.labels[rows], self.votes[rows], self.clear[rows])

    def weighted(self, votes: float) -> "Faces":
        """Return the faces with `votes` times the votes plus (1 - `votes`) times the label as votes."""
        return self.mixed_with(one_hot(self.labels), 1 - votes)

    def mixed_with(self, others: NDArray[np.float32], weight: float) -> "Faces":
        """Return the faces with (1 - `weight`) times the votes plus `weight` times others (N, 7) as votes."""
        mixed = (1 - weight) * self.votes + weight * others
        return Faces(self.images, self.labels, mixed.astype(np.float32), self.clear)


def one_hot(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return (N, 7) float32 with a 1 at each label."""
    return np.eye(len(EKMAN), dtype=np.float32)[labels]


def load_faces(path: Path, split: Split) -> Faces:
    """Load one split of an archive in the layout of `fer2013_plus.npz` (docs/training.md).

    Rows without pixels are left out, and of the training split also those that most people call "unknown" or
    "not a face". Without votes in the archive, all votes are for the label.

    Args:
        path: The archive.
        split: The split.

    Raises:
        EmotionError: The archive is missing or has another format.
    """
    if not path.is_file():
        raise EmotionError(
            f"face archive not found at {path}: --data must be the folder that contains "
            f"{FACES_FILE.as_posix()}; `emotion-train prepare-faces` writes it"
        )
    try:
        with np.load(path) as archive:
            encoded, offsets = archive[f"{split}_bytes"], archive[f"{split}_offsets"]
            classes = np.array([ekman_index(str(name)) for name in archive["classes"]])
            labels = np.asarray(classes[archive[f"{split}_labels"]], np.int64)
            votes, clear, is_face = _votes(archive, split, labels)
    except (ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise EmotionError(
            f"{path} is not a face archive ({error}): expected {split}_bytes, {split}_offsets, "
            f"{split}_labels and classes, and for votes {split}_votes and vote_names, in an .npz"
        ) from error
    kept = np.diff(offsets) > 0
    if split == "train":
        kept &= is_face
    images = [
        _decoded(encoded[start:stop], path)
        for (start, stop), used in zip(pairwise(offsets), kept, strict=True)
        if used
    ]
    if not images:
        raise EmotionError(f"{path}: no face of the split {split} has pixels: expected at least one")
    return Faces(np.stack(images), labels[kept], votes[kept], clear[kept])


def _votes(
    archive: NpzFile, split: Split, labels: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return `Faces.votes`, `Faces.clear` and whether most people see a face, for all rows of a split."""
    if f"{split}_votes" not in archive.files:
        everyone = np.ones(len(labels), np.bool_)
        return one_hot(labels), everyone, everyone
    counts = archive[f"{split}_votes"].astype(np.float32)
    names = [str(name) for name in archive["vote_names"]]
    if counts.shape != (len(labels), len(names)):
        raise ValueError(f"{split}_votes has shape {counts.shape}, not {(len(labels), len(names))}")
    emotions = np.zeros((len(labels), len(EKMAN)), np.float32)
    rejected = np.zeros(len(labels), np.float32)
    for name, column in zip(names, counts.T, strict=True):
        if name in _NOT_A_FACE:
            rejected = np.maximum(rejected, column)
        if name not in _NO_CLASS:
            emotions[:, ekman_index(name)] += column
    most = emotions.max(axis=1)
    total = emotions.sum(axis=1, keepdims=True)
    # Without a vote for any of the seven nothing is known.
    votes = np.where(total > 0, emotions / np.maximum(total, 1), np.float32(1 / len(EKMAN)))
    others = counts[:, [name not in _NOT_A_FACE for name in names]].max(axis=1)
    return votes, most > counts.sum(axis=1) / 2, (rejected <= others) & (total[:, 0] > 0)


def _decoded(encoded: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    image = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise EmotionError(f"{path}: the image of a face is corrupt: copy or build the file again")
    return np.asarray(image, np.uint8)


class FaceSampler:
    """Draws faces so that common emotions do not crowd out rare ones.

    An emotion is drawn with probability proportional to the square root of its share, then a face with
    probability proportional to its votes for this emotion.

    Args:
        votes: (N, C), rows that sum to 1.
    """

    def __init__(self, votes: NDArray[np.floating]) -> None:
        shares = votes.sum(axis=0, dtype=np.float64)
        by_class = class_weights(shares) / np.where(shares > 0, shares, 1)
        self._cumulative = np.cumsum(votes.astype(np.float64) @ by_class)

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Return `count` rows, (count,) int64."""
        points = rng.random(count) * self._cumulative[-1]
        return np.asarray(np.searchsorted(self._cumulative, points, side="right"), np.int64)


def class_weights(counts: NDArray[np.number], power: float = 0.5) -> NDArray[np.float64]:
    """Return the probability of drawing each class, proportional to count ** power.

    Args:
        counts: (C,), rows of each class, or the sum of the votes for it.
        power: 1 keeps the frequencies of the data, 0 draws all classes equally often.
    """
    weights = counts.astype(np.float64) ** power
    return np.asarray(weights / weights.sum())
