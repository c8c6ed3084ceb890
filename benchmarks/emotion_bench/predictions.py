"""Predictions of a model for rendered clips."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from emotion_train.probing.features import ClipEncoder, ClipInput, encode_all
from emotion_train.scenes.sets import PersonClip

Classifier = Callable[[NDArray[np.float32]], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions for N clips.

    Attributes:
        labels: (N,) int64, the true classes.
        probabilities: (N, C) float64.
        group: (N,) int64, the group that the caller gave each clip.
        faces: (N,) int64, rows of the faces.
        features: (N, D) float32, for other heads.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    group: NDArray[np.int64]
    faces: NDArray[np.int64]
    features: NDArray[np.float32]

    @property
    def chosen(self) -> NDArray[np.int64]:
        """The likeliest classes, (N,)."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the likeliest class is the true one, (N,)."""
        return np.asarray(self.chosen == self.labels)

    def of(self, rows: NDArray[np.bool_]) -> "Predictions":
        """Return the predictions of the rows where `rows` (N,) is true."""
        return Predictions(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def by(self, head: Classifier) -> "Predictions":
        """Return the predictions of another head."""
        return replace(self, probabilities=head(self.features))


def predict(encoder: ClipEncoder, head: Classifier, clips: Iterable[tuple[int, PersonClip]]) -> Predictions:
    """Predict clips with equal numbers of frames, which come with the number of their group."""
    given: list[tuple[int, int, int]] = []

    def inputs() -> Iterator[ClipInput]:
        for row, (group, clip) in enumerate(tqdm(clips, unit="clip", leave=False)):
            given.append((clip.label, group, clip.face))
            yield row, clip.images, clip.patch_weights

    _, features = encode_all(encoder, inputs(), batch=16)
    labels, groups, faces = np.array(given, np.int64).T
    return Predictions(labels, head(features), groups, faces, features)
