"""Compute frozen features of clips: L2-normalised, in eval mode, fp32."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from emotion_runtime.errors import EmotionError
from emotion_train.model import EmotionCLIP
from emotion_train.model.encode import encode_clips
from emotion_train.model.normalise import normalise

Features = NDArray[np.float32]
FeatureKind = Literal["video", "image"]

# Row index, K images (K, S, S, 3) uint8 RGB, and their patch weights (K, G) float32.
ClipInput = tuple[int, NDArray[np.uint8], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Features and targets that a probe is fitted or measured on.

    Attributes:
        name: Of the split or set.
        features: (N, D) float32.
        targets: By name of the task, (N,) int64 or (N, C) float32 as in `datasets.base.Sample`.
        groups: (N,) cluster of each row (its video, film or image); rows of one group are in order of time.
        skipped: Number of rows left out, by reason.
    """

    name: str
    features: Features
    targets: Mapping[str, NDArray[Any]]
    groups: tuple[str, ...]
    skipped: Mapping[str, int]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.features)


@torch.inference_mode()
def encode_all(
    model: EmotionCLIP, clips: Iterable[ClipInput], *, kind: FeatureKind = "video", batch: int = 32
) -> tuple[NDArray[np.int64], Features]:
    """Encode clips in batches.

    Args:
        model: Set to eval mode.
        clips: Each has the T images of the model, or K images that stand for these; K may differ.
        kind: "video" is the feature of the temporal encoder, "image" that of the frame encoder for a clip's
            first image.
        batch: Clips that are encoded together.

    Returns:
        Row indices (N,) in ascending order, and the features (N, D) in the same order.

    Raises:
        EmotionError: There is no clip, or the model returns values that are not finite.
    """
    model.eval()
    rows: list[int] = []
    features: list[Features] = []
    pending: dict[int, list[ClipInput]] = {}  # by K: a batch needs clips of one length
    for clip in clips:
        pieces = pending.setdefault(len(clip[1]), [])
        pieces.append(clip)
        if len(pieces) == batch:
            features.append(_encode(model, pieces, kind))
            rows.extend(row for row, _, _ in pieces)
            pieces.clear()
    for pieces in pending.values():
        if pieces:
            features.append(_encode(model, pieces, kind))
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


def _encode(model: EmotionCLIP, pieces: list[ClipInput], kind: FeatureKind) -> Features:
    device = model.logit_scale.device
    images = torch.from_numpy(np.stack([images for _, images, _ in pieces])).to(device)  # (B, K, S, S, 3)
    weights = torch.from_numpy(np.stack([weights for _, _, weights in pieces])).to(device)  # (B, K, G)
    if kind == "video":
        embeddings = encode_clips(model, images, weights)
    else:
        embeddings = model.encode_frames(normalise(images[:, 0], model.config.preprocess), weights[:, 0])
    return np.asarray(F.normalize(embeddings.float(), dim=-1).cpu().numpy(), np.float32)
