"""Predictions of a model for rendered clips."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from emotion_bench.candidates import Classifier
from emotion_runtime.heads import load_head
from emotion_runtime.names import Precision
from emotion_train.probing.encoders import BundleEncoder
from emotion_train.probing.features import ClipEncoder, ClipInput, encode_all
from emotion_train.scenes.sets import PersonClip


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions for N clips.

    Attributes:
        labels: (N,) int64, the true classes.
        probabilities: (N, C) float64 of each head, by its name.
        group: (N,) int64, the group that the caller gave each clip.
        faces: (N,) int64, rows of the faces.
    """

    labels: NDArray[np.int64]
    probabilities: Mapping[str, NDArray[np.float64]]
    group: NDArray[np.int64]
    faces: NDArray[np.int64]

    def of(self, rows: NDArray[np.bool_]) -> "Predictions":
        """Return the predictions of the rows where `rows` (N,) is true."""
        chosen = {name: values[rows] for name, values in self.probabilities.items()}
        return Predictions(self.labels[rows], chosen, self.group[rows], self.faces[rows])

    def right(self, head: str) -> NDArray[np.bool_]:
        """Return whether the likeliest class of a head is the true one, (N,)."""
        return np.asarray(self.probabilities[head].argmax(axis=1) == self.labels)


@dataclass(frozen=True, slots=True)
class Predictor:
    """A model with its heads.

    Attributes:
        encoder: Computes features of clips.
        heads: Turn features (N, D) into probabilities (N, C), by their names.
    """

    encoder: ClipEncoder
    heads: Mapping[str, Classifier]

    def predictions(self, clips: Iterable[tuple[int, PersonClip]]) -> Predictions:
        """Predict clips with equal numbers of frames, which come with the number of their group."""
        given: list[tuple[int, int, int]] = []

        def inputs() -> Iterator[ClipInput]:
            for row, (group, clip) in enumerate(tqdm(clips, unit="clip", leave=False)):
                given.append((clip.label, group, clip.face))
                yield row, clip.images, clip.patch_weights

        _, features = encode_all(self.encoder, inputs(), batch=16)
        labels, groups, faces = np.array(given, np.int64).T
        return Predictions(labels, {name: head(features) for name, head in self.heads.items()}, groups, faces)


def bundle_predictor(bundle: str, precision: Precision = "fp32") -> Predictor:
    """Return a bundle in ONNX Runtime on the CPU, with all heads that predict emotions."""
    encoder = BundleEncoder(bundle, precision)
    heads = encoder.bundle.manifest.heads
    emotions = [name for name, head in heads.items() if head.activation != "identity"]
    return Predictor(encoder, {name: load_head(encoder.bundle, name) for name in emotions})
