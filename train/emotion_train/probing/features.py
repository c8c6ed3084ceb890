"""Frozen features of clips: L2-normalised, in eval mode, fp32."""

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

# A row's number with K pictures (K, S, S, 3) uint8 RGB and their patch weights (K, G) float32.
ClipInput = tuple[int, NDArray[np.uint8], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """What a probe is fitted or measured on.

    name: of the split or set. features: (N, D) float32. targets: by name of the task, (N,) int64 or
    (N, C) float32 as in `datasets.base.Sample`. groups: (N,) what rows hang together by, rows of one group
    in order of time. skipped: rows that are not in it, by reason.
    """

    name: str
    features: Features
    targets: Mapping[str, NDArray[Any]]
    groups: tuple[str, ...]
    skipped: Mapping[str, int]

    def __len__(self) -> int:
        """N."""
        return len(self.features)


@torch.inference_mode()
def encode_all(
    model: EmotionCLIP, clips: Iterable[ClipInput], *, kind: FeatureKind = "video", batch: int = 32
) -> tuple[NDArray[np.int64], Features]:
    """Rows (N,) in ascending order and their features (N, D).

    kind: "video" is the temporal encoder's feature, "image" the frame encoder's of a clip's first picture.
    Clips may have different numbers of pictures; each has all T of the model, or K that stand for these.

    Raises:
        EmotionError: there is no clip, or the model predictions with something else than finite numbers.

    """
    model.eval()
    rows: list[int] = []
    features: list[Features] = []
    waiting: dict[int, list[ClipInput]] = {}  # by K: only clips of one length make a batch
    for clip in clips:
        pieces = waiting.setdefault(len(clip[1]), [])
        pieces.append(clip)
        if len(pieces) == batch:
            features.append(_encode(model, pieces, kind))
            rows.extend(row for row, _, _ in pieces)
            pieces.clear()
    for pieces in waiting.values():
        if pieces:
            features.append(_encode(model, pieces, kind))
            rows.extend(row for row, _, _ in pieces)
    if not rows:
        raise EmotionError("no clip to encode: give more samples or faces")
    order = np.argsort(rows)
    joined = np.concatenate(features)[order]
    broken = int((~np.isfinite(joined).all(axis=1)).sum())
    if broken:
        raise EmotionError(
            f"features of {broken} of {len(rows)} clips are no finite numbers: training broke before this "
            "checkpoint was written, use an earlier one"
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
