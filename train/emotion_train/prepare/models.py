"""The models that process frames and sentences, loaded once per process."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from emotion_runtime.backends.base import Unavailable
from emotion_runtime.detector_backend import run_network
from emotion_runtime.detectors import Detector, load_detector
from emotion_runtime.detectors.network import NetworkDetector
from emotion_runtime.errors import EmotionError
from emotion_train.language.goemotions import load_sentences
from emotion_train.language.sentiment import LinearSentiment, SentimentModel, TransformersSentiment
from emotion_train.prepare.punctuation import TransformersPunctuation
from emotion_train.prepare.settings import ModelNames


@dataclass(frozen=True, slots=True)
class PrepareModels:
    """The models of one worker."""

    detector: Detector
    sentiment: SentimentModel
    punctuation: TransformersPunctuation | None = None


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
        sentiment = TransformersSentiment(names.sentiment, device=names.device)
    detector = load_detector(names.detector, threads=1, score=names.detector_score)
    if names.device == "cuda":
        move_to_gpu(detector)
    punctuation = (
        TransformersPunctuation(names.punctuation, device=names.device) if names.punctuation else None
    )
    return PrepareModels(detector, sentiment, punctuation)


def move_to_gpu(detector: Detector) -> None:
    """Let a detector's network run on the GPU, and open it there for a first image.

    UNVERIFIED on a GPU: run `emotion-train prepare-data --device cuda` on a machine with one.

    Raises:
        EmotionError: The detector has no network, or CUDA does not start.
    """
    if not isinstance(detector, NetworkDetector):
        raise EmotionError(
            f"{type(detector).__name__} has no network that could run on a GPU: use --device cpu"
        )
    run_network(detector, "cuda", by_name=True, precision=None)
    try:
        detector(np.zeros((480, 640, 3), np.uint8))  # opens it now, so that it does not fail for every video
    except Unavailable as error:
        fix = f"{error.fix}, or " if error.fix else ""
        raise EmotionError(f"--device cuda: {error.reason}; {fix}use --device cpu") from error


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
