"""EmotionCLIP: frame encoder, temporal encoder and text encoder in one embedding space.

Source: paper Sec. 3.2-3.3. All features are returned before L2 normalisation.
"""

import math

import torch
from torch import Tensor, nn

from emotion_runtime.errors import EmotionError
from emotion_train.model.config import ModelConfig
from emotion_train.model.temporal import temporal_encoder
from emotion_train.model.text import Backbone


class EmotionCLIP(nn.Module):
    """The model; its parameter names are those of the released checkpoint.

    Shapes: F images, P people, B clips or sentences; S: side of an image, G: patches of an image, T: frames
    of a clip, D: size of an embedding, see `ModelConfig`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config)
        self.visual_head = temporal_encoder(config)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def encode_people(self, images: Tensor, frame_index: Tensor, patch_weights: Tensor) -> Tensor:
        """Encode each person in a frame; one image can show several people.

        Args:
            images: (F, 3, S, S) float32 RGB, normalised by mean and std.
            frame_index: (P,) int64, the image that shows each person.
            patch_weights: (P, G) float32 in [0, 1], fraction of each patch that the person covers; patches
                row by row.

        Returns:
            (P, D) float32.

        Raises:
            EmotionError: An argument has another shape.
        """
        size, patches = self.config.preprocess.size, self.config.preprocess.patches
        _check_shape("images", images, ("F", 3, size, size))
        _check_shape("frame_index", frame_index, ("P",))
        _check_shape("patch_weights", patch_weights, (frame_index.shape[0], patches))
        embeddings: Tensor = self.backbone.visual(images, frame_index, patch_weights)
        return embeddings

    def encode_frames(self, images: Tensor, patch_weights: Tensor) -> Tensor:
        """Encode one person per image: images (B, 3, S, S), patch_weights (B, G) -> (B, D).

        See `encode_people`.
        """
        return self.encode_people(images, torch.arange(images.shape[0], device=images.device), patch_weights)

    def encode_temporal(self, embeddings: Tensor) -> Tensor:
        """Encode clips from the embeddings of their frames.

        Args:
            embeddings: (B, T, D) float32, oldest frame first.

        Returns:
            (B, D) float32.

        Raises:
            EmotionError: T or D is not that of the model.
        """
        _check_shape("embeddings", embeddings, ("B", self.config.clip_frames, self.config.embed_dim))
        features: Tensor = self.visual_head(embeddings)
        return features

    def encode_video(self, images: Tensor, patch_weights: Tensor) -> Tensor:
        """Encode clips of one person each.

        Args:
            images: (B, T, 3, S, S) float32 RGB, normalised, oldest frame first.
            patch_weights: (B, T, G) float32 in [0, 1].

        Returns:
            (B, D) float32.

        Raises:
            EmotionError: An argument has another shape.
        """
        frames = self.config.clip_frames
        size, patches = self.config.preprocess.size, self.config.preprocess.patches
        _check_shape("images", images, ("B", frames, 3, size, size))
        _check_shape("patch_weights", patch_weights, (images.shape[0], frames, patches))
        embeddings = self.encode_frames(images.flatten(0, 1), patch_weights.flatten(0, 1))  # (B * T, D)
        return self.encode_temporal(embeddings.reshape(*images.shape[:2], -1))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Encode sentences.

        Args:
            tokens: (B, context) int64, from `emotion_train.language.tokenizer.tokenize`.

        Returns:
            (B, D) float32.

        Raises:
            EmotionError: `tokens` has another shape.
        """
        _check_shape("tokens", tokens, ("B", self.config.text_context))
        return self.backbone.encode_text(tokens)


def _check_shape(name: str, tensor: Tensor, expected: tuple[int | str, ...]) -> None:
    """Raise an error if the shape differs. Strings in `expected` match any size."""
    matches = tensor.ndim == len(expected) and all(
        isinstance(allowed, str) or size == allowed
        for size, allowed in zip(tensor.shape, expected, strict=True)
    )
    if not matches:
        sizes = ", ".join(map(str, expected))
        raise EmotionError(f"{name} has shape {tuple(tensor.shape)}: expected ({sizes})")
