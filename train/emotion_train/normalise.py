"""Pixels to the model's input."""

import torch
from torch import Tensor

from emotion_runtime.preprocess import PreprocessSpec


def normalise(images: Tensor, spec: PreprocessSpec) -> Tensor:
    """(..., S, S, 3) uint8 RGB -> (..., 3, S, S) float32 by the spec's mean and std."""
    mean = torch.tensor(spec.mean, device=images.device) * 255
    std = torch.tensor(spec.std, device=images.device) * 255
    return ((images.float() - mean) / std).movedim(-1, -3)
