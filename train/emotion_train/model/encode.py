"""Clips as they come from data, uint8 clip_index and patch weights, to features."""

import torch
from torch import Tensor

from emotion_train.model import EmotionCLIP
from emotion_train.model.normalise import normalise


def encode_clips(
    model: EmotionCLIP, images: Tensor, patch_weights: Tensor, clip_index: Tensor | None = None
) -> Tensor:
    """Clips of K encoded frames of B persons, whole or several persons to a clip -> (B, D) float32.

    images: (F, K, S, S, 3) uint8 RGB. patch_weights: (B, K, G) float32. clip_index: (B,) int64, whose row of
    images shows each person; None: one person a clip, B = F.
    """
    pixels = normalise(images.flatten(0, 1), model.config.preprocess)
    frames = images.shape[1]
    if clip_index is None:
        clip_index = torch.arange(images.shape[0], device=images.device)
    index = clip_index[:, None] * frames + torch.arange(frames, device=images.device)  # (B, K)
    embeddings = model.encode_people(
        pixels.contiguous(memory_format=torch.channels_last), index.flatten(), patch_weights.flatten(0, 1)
    ).reshape(*index.shape, -1)
    return model.encode_temporal(spread_frames(embeddings, model.config.clip_frames)).float()


def spread_frames(values: Tensor, clip_frames: int) -> Tensor:
    """(B, K, ...) -> (B, T, ...): each of K encoded frames stands for its share of the clip's T.

    The runtime does the same while a person is new (it repeats the oldest embedding), and encoding fewer
    frames a clip lets a CPU see more faces in the same time.
    """
    index = torch.arange(clip_frames, device=values.device) * values.shape[1] // clip_frames
    return values.index_select(1, index)
