"""From uint8 images and patch weights, as a data loader delivers them, to features."""

import torch
from torch import Tensor

from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.model import EmotionCLIP


def normalise(images: Tensor, spec: PreprocessSpec) -> Tensor:
    """Convert (..., S, S, 3) uint8 RGB to (..., 3, S, S) float32, normalised by the spec's mean and std."""
    mean, std = (255 * torch.tensor(x, device=images.device)[:, None, None] for x in (spec.mean, spec.std))
    return (images.float().movedim(-1, -3) - mean) / std


def encode_clips(
    model: EmotionCLIP, images: Tensor, patch_weights: Tensor, clip_index: Tensor | None = None
) -> Tensor:
    """Normalise and encode clips of which K frames are given.

    Args:
        model: The model.
        images: (F, K, S, S, 3) uint8 RGB.
        patch_weights: (B, K, G) float32 in [0, 1], of B people.
        clip_index: (B,) int64, the row of `images` that shows each person; None means one person per clip, so
            that B = F.

    Returns:
        (B, D) float32, not L2-normalised.
    """
    pixels = normalise(images.flatten(0, 1), model.config.preprocess)
    frames = images.shape[1]
    if clip_index is None:
        clip_index = torch.arange(images.shape[0], device=images.device)
    frame_index = clip_index[:, None] * frames + torch.arange(frames, device=images.device)  # (B, K)
    embeddings = model.encode_people(
        pixels.contiguous(memory_format=torch.channels_last),
        frame_index.flatten(),
        patch_weights.flatten(0, 1),
    ).reshape(*frame_index.shape, -1)
    return model.encode_temporal(repeat_frames(embeddings, model.config.clip_frames)).float()


def repeat_frames(values: Tensor, clip_frames: int) -> Tensor:
    """Repeat K encoded frames in order until the clip has `clip_frames`: (B, K, ...) -> (B, T, ...).

    Encoding fewer frames per clip lets a CPU see more faces in the same time. The runtime also repeats
    embeddings while a person is new.
    """
    index = torch.arange(clip_frames, device=values.device) * values.shape[1] // clip_frames
    return values.index_select(1, index)
