"""Clips as they come from data, uint8 pictures and patch weights, to features."""

import torch
from torch import Tensor

from emotion_train.data.clips import spread_frames
from emotion_train.model import EmotionCLIP
from emotion_train.normalise import normalise


def encode_clips(model: EmotionCLIP, images: Tensor, patch_weights: Tensor) -> Tensor:
    """Clips of K encoded frames: images (B, K, S, S, 3) uint8, patch_weights (B, K, G) -> (B, D) float32."""
    pixels = normalise(images.flatten(0, 1), model.config.preprocess)
    embeddings = model.encode_frames(
        pixels.contiguous(memory_format=torch.channels_last), patch_weights.flatten(0, 1)
    ).reshape(*images.shape[:2], -1)
    return model.encode_temporal(spread_frames(embeddings, model.config.clip_frames)).float()
