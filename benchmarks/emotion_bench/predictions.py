"""Predictions of a bundle for clips, computed as the runtime does: in ONNX Runtime, without torch."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.bundle import load_bundle
from emotion_runtime.encoder import TemporalEncoder
from emotion_runtime.heads import load_head
from emotion_runtime.manifest import Precision
from emotion_runtime.open_backend import open_encoders
from emotion_train.scenes.sets import PersonClip

BATCH = 16  # clips


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


class Predictor:
    """A bundle on one backend.

    Args:
        bundle: Name or folder.
        backend: Name of the backend.
        precision: Precision of the graphs; None means that of the backend.
        heads: Names of heads; None means all that predict emotions.
    """

    def __init__(
        self,
        bundle: str,
        *,
        backend: str = "cpu",
        precision: Precision | None = None,
        heads: tuple[str, ...] | None = None,
    ) -> None:
        loaded = load_bundle(bundle)
        self.manifest = loaded.manifest
        emotions = [name for name, head in self.manifest.heads.items() if head.activation != "identity"]
        self.heads = {name: load_head(loaded, name) for name in heads or emotions}
        self.frame_encoder, temporal = open_encoders(backend, loaded, precision)
        self._temporal = TemporalEncoder(temporal)

    def features(self, clips: list[PersonClip]) -> NDArray[np.float32]:
        """Return the features (N, D) of clips with equal numbers of frames.

        Fewer frames than the model's T are repeated, as in a ring that is not full yet.
        """
        frames = len(clips[0].images)
        images = np.concatenate([clip.images for clip in clips])
        weights = np.concatenate([clip.patch_weights for clip in clips])
        index = np.arange(len(images))
        fed = {"images": images, "frame_index": index, "patch_weights": weights}
        embeddings = self.frame_encoder.run(fed)["embeddings"].reshape(len(clips), frames, -1)
        repeated = np.arange(self.manifest.clip_frames) * frames // self.manifest.clip_frames
        return self._temporal.features(list(embeddings[:, repeated]))

    def predictions(self, clips: Iterable[tuple[int, PersonClip]]) -> Predictions:
        """Predict clips that come with the number of their group."""
        waiting = iter(clips)
        labels: list[int] = []
        groups: list[int] = []
        faces: list[int] = []
        features: list[NDArray[np.float32]] = []
        for batch in _batches(waiting):
            features.append(self.features([clip for _, clip in batch]))
            labels += [clip.label for _, clip in batch]
            groups += [group for group, _ in batch]
            faces += [clip.face for _, clip in batch]
        joined = np.concatenate(features)
        probabilities = {name: head(joined) for name, head in self.heads.items()}
        return Predictions(
            np.array(labels, np.int64), probabilities, np.array(groups, np.int64), np.array(faces, np.int64)
        )


def _batches(clips: Iterator[tuple[int, PersonClip]]) -> Iterator[list[tuple[int, PersonClip]]]:
    while batch := list(islice(clips, BATCH)):
        yield batch
