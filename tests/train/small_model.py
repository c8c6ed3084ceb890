"""A small model and random inputs for tests."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.model import EmotionCLIP, ModelConfig

SMALL = ModelConfig(
    preprocess=PreprocessSpec(size=48, patch=16, window="subject", short_side=48, subject_scale=1.5),
    embed_dim=24,
    vision_width=32,
    vision_layers=3,
    vision_heads=4,
    temporal_layers=2,
    temporal_heads=4,
    temporal_ff=40,
    text_width=16,
    text_layers=2,
    text_heads=2,
    text_vocab=100,
)
SIZE, PATCHES = SMALL.preprocess.size, SMALL.preprocess.patches


def build(subject: str, *, subject_bias: bool = False, **changes: Any) -> EmotionCLIP:
    """Return a small model in eval mode; no parameter has an initial value that would hide its effect."""
    torch.manual_seed(0)
    model = EmotionCLIP(replace(SMALL, subject=subject, subject_bias=subject_bias, **changes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # gains start at 1 and biases at 0
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif "in_proj" in name:
                parameter.mul_(2)  # attention that is far from uniform
    return model


def random_images(count: int) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def weights(count: int, seed: int = 2) -> Tensor:
    """Return random patch weights (count, G) in [0, 1], about half of them 0."""
    return (2 * torch.rand(count, PATCHES, generator=torch.Generator().manual_seed(seed)) - 1).clamp(min=0)
