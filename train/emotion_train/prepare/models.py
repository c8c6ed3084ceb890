"""The models that process frames and sentences, loaded once per process."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from emotion_runtime.detectors import Detector, load_detector
from emotion_train.language.goemotions import load_sentences
from emotion_train.language.sentiment import LinearSentiment, SentimentModel, TransformersSentiment
from emotion_train.prepare.settings import ModelNames


@dataclass(frozen=True, slots=True)
class PrepareModels:
    """The models of one worker."""

    detector: Detector
    sentiment: SentimentModel


@lru_cache(maxsize=1)
def load_models(names: ModelNames) -> PrepareModels:
    """Return the models, which are loaded once per process.

    Raises:
        EmotionError: A model is missing or invalid.
    """
    sentiment: SentimentModel
    if names.sentiment == "linear" and names.sentences is not None:
        sentiment = LinearSentiment(load_sentences(names.sentences, "train"))
    else:
        sentiment = TransformersSentiment(names.sentiment)
    return PrepareModels(load_detector(names.detector, threads=1, score=names.detector_score), sentiment)


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread: sums of several threads differ in their last digits. Videos run in parallel instead."""
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - comes with scikit-learn

    # torch has its own threads. It is slow to import and only some models need it, so it is not imported
    # here.
    torch: Any = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 0
    if torch:
        torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        if torch:
            torch.set_num_threads(threads)
