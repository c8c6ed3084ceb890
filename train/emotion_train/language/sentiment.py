"""The frozen model f_s that scores the sentiment of sentences for the loss (paper Sec. 3.4).

There are two: a linear classifier fitted on GoEmotions, which needs no download, and any sequence
classifier of transformers, such as the paper's `j-hartmann/emotion-english-distilroberta-base`.
"""

import warnings
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_train.language.goemotions import Sentences
from emotion_train.language.labels import EKMAN, ekman_index, missing_classes

PAPER_MODEL = "j-hartmann/emotion-english-distilroberta-base"


class SentimentModel(Protocol):
    """A model that scores sentences; it does not change during pre-training."""

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return logits (N, 7) float32 in `EKMAN` order."""
        ...


class LinearSentiment:
    """Multinomial logistic regression on TF-IDF of words and word pairs; deterministic.

    Fitting takes half a minute.

    Raises:
        EmotionError: A class has no sentence.
    """

    def __init__(self, sentences: Sentences) -> None:
        from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
        from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415  (slow to import)
        from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
        from sklearn.pipeline import make_pipeline  # noqa: PLC0415

        missing = missing_classes(sentences.labels)
        if missing:
            raise EmotionError(f"no sentence of {', '.join(missing)} to fit the sentiment model: add some")
        self._pipeline = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, strip_accents="unicode"),
            LogisticRegression(C=4.0, max_iter=200),
        )
        with warnings.catch_warnings():
            # 200 iterations are enough: the scores only weigh negatives, they are not reported as results.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._pipeline.fit(sentences.texts, sentences.labels)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return logits (N, 7) float32 in `EKMAN` order."""
        logits = self._pipeline.decision_function(list(texts))
        return np.asarray(logits, np.float32)


class TransformersSentiment:
    """A sequence classifier of transformers.

    Args:
        name_or_path: Name on the Hugging Face hub, or a folder.
        batch_size: Sentences per forward pass.
        device: As torch names it.

    Raises:
        EmotionError: The model cannot be loaded, or its classes are not the seven of Ekman.
    """

    def __init__(self, name_or_path: str = PAPER_MODEL, *, batch_size: int = 64, device: str = "cpu") -> None:
        from transformers import (  # noqa: PLC0415  (slow to import, and only this option needs it)
            AutoModelForSequenceClassification,
            AutoTokenizer,
        )

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(name_or_path)
            self._model = AutoModelForSequenceClassification.from_pretrained(name_or_path).eval()
        except (OSError, ValueError) as error:  # a folder without a model raises ValueError
            raise EmotionError(
                f"sentiment model {name_or_path!r} cannot be loaded: use a folder of save_pretrained, "
                'a name on the Hugging Face hub (needs a network), or sentiment = "linear"'
            ) from error
        names = [str(name).lower() for _, name in sorted(self._model.config.id2label.items())]
        try:
            columns = [ekman_index(name) for name in names]
        except EmotionError:
            columns = []
        if sorted(columns) != list(range(len(EKMAN))):
            raise EmotionError(
                f"sentiment model {name_or_path!r} has classes {names}: expected the seven {list(EKMAN)}"
            )
        self._order = np.argsort(columns)
        self._device = device
        self._model.to(device)
        self._batch_size = batch_size

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return logits (N, 7) float32 in `EKMAN` order."""
        import torch  # noqa: PLC0415

        parts = []
        with torch.inference_mode():
            for start in range(0, len(texts), self._batch_size):
                batch = list(texts[start : start + self._batch_size])
                tokens = self._tokenizer(batch, padding=True, truncation=True, return_tensors="pt")
                parts.append(self._model(**tokens.to(self._device)).logits.float().cpu().numpy())
        return np.asarray(np.concatenate(parts)[:, self._order], np.float32)


def load_sentiment(name: str, sentences: Sentences) -> SentimentModel:
    """Fit a linear model on the sentences if `name` is "linear", otherwise load a model of transformers."""
    return LinearSentiment(sentences) if name == "linear" else TransformersSentiment(name)
