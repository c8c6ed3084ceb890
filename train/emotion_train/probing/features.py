"""Compute frozen features of clips: L2-normalised, fp32."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec

Features = NDArray[np.float32]
FeatureKind = Literal["video", "image"]

# Row index, K images (K, S, S, 3) uint8 RGB, and their patch weights (K, G) float32.
ClipInput = tuple[int, NDArray[np.uint8], NDArray[np.float32]]


class ClipEncoder(Protocol):
    """A frozen model: a checkpoint in torch, or a bundle in ONNX Runtime."""

    @property
    def spec(self) -> PreprocessSpec:
        """How its images are preprocessed."""
        ...

    def features(
        self, images: NDArray[np.uint8], patch_weights: NDArray[np.float32], kind: FeatureKind
    ) -> Features:
        """Return L2-normalised features (B, D) of clips of equal length.

        Args:
            images: (B, K, S, S, 3) uint8 RGB; K images that stand for all of a clip.
            patch_weights: (B, K, G) float32.
            kind: "video" is the feature of the temporal encoder, "image" that of the frame encoder for a
                clip's first image.
        """
        ...


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Features and targets that a probe is fitted or measured on.

    Attributes:
        name: Of the split or set.
        features: (N, D) float32.
        targets: By name of the task, (N,) int64 or (N, C) float32 as in `datasets.base.Sample`.
        groups: (N,) cluster of each row (its video, film or image); rows of one group are in order of time.
        skipped: Number of rows left out, by reason.
        votes: By name of a task of single labels, (N, C) float32 rows that sum to 1: what annotators see. The
            labels of such a task are the majorities.
    """

    name: str
    features: Features
    targets: Mapping[str, NDArray[Any]]
    groups: tuple[str, ...]
    skipped: Mapping[str, int]
    votes: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.features)


def encode_all(
    encoder: ClipEncoder, clips: Iterable[ClipInput], *, kind: FeatureKind = "video", batch: int = 32
) -> tuple[NDArray[np.int64], Features]:
    """Encode clips in batches.

    Args:
        encoder: The frozen model.
        clips: Each has the T images of the model, or K images that stand for these; K may differ.
        kind: See `ClipEncoder.features`.
        batch: Clips that are encoded together.

    Returns:
        Row indices (N,) in ascending order, and the features (N, D) in the same order.

    Raises:
        EmotionError: There is no clip, or the model returns values that are not finite.
    """
    rows: list[int] = []
    features: list[Features] = []
    pending: dict[int, list[ClipInput]] = {}  # by K: a batch needs clips of one length
    for clip in clips:
        pieces = pending.setdefault(len(clip[1]), [])
        pieces.append(clip)
        if len(pieces) == batch:
            features.append(_encode(encoder, pieces, kind))
            rows.extend(row for row, _, _ in pieces)
            pieces.clear()
    for pieces in pending.values():
        if pieces:
            features.append(_encode(encoder, pieces, kind))
            rows.extend(row for row, _, _ in pieces)
    if not rows:
        raise EmotionError("there are no clips to encode: expected at least one; use more samples or faces")
    order = np.argsort(rows)
    joined = np.concatenate(features)[order]
    broken = int((~np.isfinite(joined).all(axis=1)).sum())
    if broken:
        raise EmotionError(
            f"the features of {broken} of {len(rows)} clips are not finite: training diverged before this "
            "checkpoint was written; use an earlier checkpoint"
        )
    return np.array(rows, np.int64)[order], joined


def _encode(encoder: ClipEncoder, pieces: list[ClipInput], kind: FeatureKind) -> Features:
    images = np.stack([images for _, images, _ in pieces])
    return encoder.features(images, np.stack([weights for _, _, weights in pieces]), kind)
