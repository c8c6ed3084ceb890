"""EmotionCLIP: frame encoder, temporal encoder and text encoder in one embedding space.

Source: paper Sec. 3.2-3.3. Features come out before L2 normalisation.
"""

import math

import torch
from torch import Tensor, nn

from emotion_runtime.errors import EmotionError
from emotion_train.model.config import ModelConfig
from emotion_train.model.temporal import temporal_encoder
from emotion_train.model.text import Backbone


class EmotionCLIP(nn.Module):
    """The model. S: side of a picture, G: patches, T: frames of a clip, D: embedding; see `ModelConfig`.

    Parameter names are those of the released checkpoint.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.visual_head = temporal_encoder(config)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_people(self, images: Tensor, frame_index: Tensor, patch_weights: Tensor) -> Tensor:
        """One embedding a person; several persons can stand in one picture.

        images: (F, 3, S, S) float32 RGB, normalised by mean and std. frame_index: (P,) int64, the picture
        of each person. patch_weights: (P, G) float32 in [0, 1], covered fraction of each patch, row by row.
        Returns (P, D) float32.

        Raises:
            EmotionError: a shape is not as above.

        """
        size, patches = self.config.preprocess.size, self.config.preprocess.patches
        _check_shape("images", images, ("F", 3, size, size))
        _check_shape("frame_index", frame_index, ("P",))
        _check_shape("patch_weights", patch_weights, (frame_index.shape[0], patches))
        embeddings: Tensor = self.backbone.visual(images, frame_index, patch_weights)
        return embeddings

    def encode_frames(self, images: Tensor, patch_weights: Tensor) -> Tensor:
        """One person a picture: images (B, 3, S, S), patch_weights (B, G) -> (B, D); see `encode_people`."""
        return self.encode_people(images, torch.arange(images.shape[0], device=images.device), patch_weights)

    def encode_temporal(self, embeddings: Tensor) -> Tensor:
        """Frame embeddings of clips, oldest first: (B, T, D) float32 -> (B, D) float32.

        Raises:
            EmotionError: T or D is not the model's.

        """
        _check_shape("embeddings", embeddings, ("B", self.config.clip_frames, self.config.embed_dim))
        features: Tensor = self.visual_head(embeddings)
        return features

    def encode_video(self, images: Tensor, patch_weights: Tensor) -> Tensor:
        """Clips of one person each: images (B, T, 3, S, S), patch_weights (B, T, G) -> (B, D).

        Raises:
            EmotionError: a shape is not as above.

        """
        frames = self.config.clip_frames
        size, patches = self.config.preprocess.size, self.config.preprocess.patches
        _check_shape("images", images, ("B", frames, 3, size, size))
        _check_shape("patch_weights", patch_weights, (images.shape[0], frames, patches))
        embeddings = self.encode_frames(images.flatten(0, 1), patch_weights.flatten(0, 1))  # (B * T, D)
        return self.encode_temporal(embeddings.reshape(*images.shape[:2], -1))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids (B, context) int64, as `emotion_train.language.tokenizer` gives them -> (B, D) float32.

        Raises:
            EmotionError: tokens are not (B, context).

        """
        _check_shape("tokens", tokens, ("B", self.config.text_context))
        return self.backbone.encode_text(tokens)


def _check_shape(name: str, tensor: Tensor, expected: tuple[int | str, ...]) -> None:
    """A letter stands for any size."""
    fits = tensor.ndim == len(expected) and all(
        isinstance(wanted, str) or size == wanted for size, wanted in zip(tensor.shape, expected, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, expected))
        raise EmotionError(f"{name} of shape {tuple(tensor.shape)}: expected ({wanted})")
