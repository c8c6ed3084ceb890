"""Clips and the sentences spoken in them, as contrastive pre-training takes them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ClipTextBatch:
    """B clips and their sentences.

    images: (F, K, S, S, 3) uint8 RGB. clip_index: (B,) int64, whose row of images shows each person.
    patch_weights: (B, K, G) float32. text: tokens (B, 77) int64, or
    features (B, D) float32 of a locked tower. sentiment: (B, 7) float32 logits. labels: (B,) int64 in `EKMAN`
    order where the emotion is known. targets: (B, 7) float32, rows that sum to 1, for a supervised term.
    """

    images: Tensor
    clip_index: Tensor
    patch_weights: Tensor
    text: Tensor
    sentiment: Tensor
    labels: Tensor | None = None
    targets: Tensor | None = None

    def __len__(self) -> int:
        return self.clip_index.shape[0]

    def to(self, device: torch.device) -> "ClipTextBatch":
        """On the device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "ClipTextBatch":
        """In memory from which a GPU copies by itself; a DataLoader calls it."""
        return self._map(Tensor.pin_memory)

    def split(self, chunks: int) -> list["ClipTextBatch"]:
        """At most `chunks` pieces of nearly equal numbers of persons, without labels and targets."""
        if chunks == 1:
            return [self]
        pieces = []
        for rows in torch.arange(len(self), device=self.clip_index.device).tensor_split(chunks):
            if len(rows):
                used, clip_index = torch.unique(self.clip_index[rows], return_inverse=True)
                pieces.append(
                    ClipTextBatch(
                        self.images[used],
                        clip_index,
                        self.patch_weights[rows],
                        self.text[rows],
                        self.sentiment[rows],
                    )
                )
        return pieces

    def _map(self, change: Callable[[Tensor], Tensor]) -> "ClipTextBatch":
        return ClipTextBatch(
            change(self.images),
            change(self.clip_index),
            change(self.patch_weights),
            change(self.text),
            change(self.sentiment),
            None if self.labels is None else change(self.labels),
            None if self.targets is None else change(self.targets),
        )
