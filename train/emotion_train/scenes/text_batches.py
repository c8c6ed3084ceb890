"""Rendered clips paired with sentences of the same emotion."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from emotion_train.batch import ClipTextBatch
from emotion_train.language.labels import rows_by_class
from emotion_train.language.sentence_bank import SentenceBank
from emotion_train.scenes.batches import SceneBatch, SceneBatches


class SceneTextBatches(Dataset[ClipTextBatch]):
    """Item i is batch i of the clips, each person with a random sentence of an emotion.

    The emotion is that of `SceneBatch.labels`, drawn from the votes. An item depends on (seed, i) alone, like
    the clips themselves.

    Args:
        clips: The rendered clips.
        bank: N sentences to draw from.
        text: What the model reads of each sentence: tokens (N, 77) int64, or features (N, D) float32 of a
            locked text tower.
        targets: (faces, 7) float32, what the supervised term expects of each training face; None without it.
    """

    def __init__(
        self, clips: SceneBatches, bank: SentenceBank, text: Tensor, targets: Tensor | None = None
    ) -> None:
        self.clips, self.text, self.targets = clips, text, targets
        self.sentiment = bank.sentiment
        self._rows = rows_by_class(bank.labels)

    def __getitem__(self, index: int) -> ClipTextBatch:
        clips = self.clips[index]
        sentences = self._draw_sentences(clips)
        return ClipTextBatch(
            images=clips.images,
            clip_index=clips.clip_index,
            patch_weights=clips.patch_weights,
            text=self.text[sentences],
            sentiment=self.sentiment[sentences],
            labels=clips.labels,
            targets=None if self.targets is None else self.targets[clips.faces],
        )

    def _draw_sentences(self, clips: SceneBatch) -> Tensor:
        """Return the row of a sentence for each person, (B,) int64."""
        rng = np.random.default_rng([*clips.seed, 1])
        rows = [int(rng.choice(self._rows[label])) for label in clips.labels.tolist()]
        return torch.tensor(rows, dtype=torch.int64)
