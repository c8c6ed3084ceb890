"""From pixels to the model's input."""

import torch
from torch import Tensor

from emotion_runtime.preprocess import PreprocessSpec


def normalise(images: Tensor, spec: PreprocessSpec) -> Tensor:
    """Convert (..., S, S, 3) uint8 RGB to (..., 3, S, S) float32, normalised by the spec's mean and std."""
    mean, std = (255 * torch.tensor(x, device=images.device)[:, None, None] for x in (spec.mean, spec.std))
    return (images.float().movedim(-1, -3) - mean) / std
