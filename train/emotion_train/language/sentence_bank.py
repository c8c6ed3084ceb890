"""Sentences prepared for pairing with clips: tokens and sentiment logits."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_train.language.goemotions import Sentences
from emotion_train.language.labels import missing_classes
from emotion_train.language.sentiment import SentimentModel
from emotion_train.language.tokenizer import tokenize


@dataclass(frozen=True, slots=True)
class SentenceBank:
    """N sentences.

    Attributes:
        tokens: (N, 77) int64.
        sentiment: (N, 7) float32, logits of the sentiment model.
        labels: (N,) int64, positions in `EKMAN`.
    """

    tokens: torch.Tensor
    sentiment: torch.Tensor
    labels: NDArray[np.int64]

    def confident(self, probability: float) -> "SentenceBank":
        """Keep sentences whose own class has at least this probability according to the sentiment model.

        Raises:
            EmotionError: No sentence of a class is left.
        """
        own_class = torch.softmax(self.sentiment, dim=1)[
            torch.arange(len(self.labels)), torch.from_numpy(self.labels)
        ]
        rows = np.flatnonzero(own_class.numpy() >= probability)
        missing = missing_classes(self.labels[rows])
        if missing:
            raise EmotionError(
                f"sentence_confidence {probability} leaves no sentence of {', '.join(missing)}: lower it"
            )
        return SentenceBank(self.tokens[rows], self.sentiment[rows], self.labels[rows])


def build_bank(sentences: Sentences, sentiment: SentimentModel) -> SentenceBank:
    """Tokenise and score the sentences once, as the sentiment model does not change in training."""
    return SentenceBank(
        tokenize(sentences.texts), torch.from_numpy(sentiment(sentences.texts)), sentences.labels
    )
