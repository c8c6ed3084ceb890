"""The batch of contrastive pre-training: clips, and the sentence that goes with each."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor


class SkippedClip(NamedTuple):
    """A clip that cannot be read.

    Attributes:
        key: Name of the clip.
        reason: The error.
    """

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class ClipTextBatch:
    """B people, each seen in a clip and paired with a sentence.

    Attributes:
        images: (F, K, S, S, 3) uint8 RGB, K encoded frames of F clips.
        clip_index: (B,) int64, the row of `images` that shows each person.
        patch_weights: (B, K, G) float32, covered fraction of each patch.
        text: Tokens (B, 77) int64, or features (B, D) float32 of a locked text tower.
        sentiment: (B, 7) float32, logits of the sentiment model.
        labels: (B,) int64 in `EKMAN` order, where the emotion is known.
        targets: (B, 7) float32, rows that sum to 1, for the supervised term.
        skipped: Clips that cannot be read, in whose place others are shown.
    """

    images: Tensor
    clip_index: Tensor
    patch_weights: Tensor
    text: Tensor
    sentiment: Tensor
    labels: Tensor | None = None
    targets: Tensor | None = None
    skipped: tuple[SkippedClip, ...] = ()

    def __len__(self) -> int:
        return self.clip_index.shape[0]

    def to(self, device: torch.device) -> "ClipTextBatch":
        """Return the batch on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "ClipTextBatch":
        """Return the batch in page-locked memory, as a DataLoader asks for it to speed up copies to a GPU."""
        return self._map(Tensor.pin_memory)

    def split(self, chunks: int) -> list["ClipTextBatch"]:
        """Return at most `chunks` parts with nearly equal numbers of people, without labels and targets.

        Each part holds only the images that it needs.
        """
        if chunks == 1:
            return [self]
        parts = []
        for rows in torch.arange(len(self), device=self.clip_index.device).tensor_split(chunks):
            if len(rows):
                used, clip_index = torch.unique(self.clip_index[rows], return_inverse=True)
                parts.append(
                    ClipTextBatch(
                        self.images[used],
                        clip_index,
                        self.patch_weights[rows],
                        self.text[rows],
                        self.sentiment[rows],
                    )
                )
        return parts

    def _map(self, change: Callable[[Tensor], Tensor]) -> "ClipTextBatch":
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {
            name: change(value) if isinstance(value, Tensor) else value for name, value in values.items()
        }
        return ClipTextBatch(**changed)
