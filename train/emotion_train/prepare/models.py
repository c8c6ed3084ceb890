"""The models that process frames and sentences, loaded once per process."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.onnx import CPU, CUDA, open_session
from emotion_runtime.detectors import Detector, load_detector
from emotion_runtime.detectors.graph import INPUT, DetectorGraph
from emotion_runtime.detectors.network import NetworkDetector, Outputs
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
    """Let a detector's network run in ONNX Runtime on the GPU.

    UNVERIFIED on a GPU: run `emotion-train prepare-data --device cuda` on a machine with one.

    Raises:
        EmotionError: CUDA does not start.
    """
    if not isinstance(detector, NetworkDetector):
        raise EmotionError(
            f"{type(detector).__name__} has no network that could run on a GPU: use --device cpu"
        )
    detector.network = GpuNetwork(detector.graph)


class GpuNetwork:
    """A detector's graph in ONNX Runtime with CUDA. See `emotion_runtime.detectors.network.Network`.

    Raises:
        EmotionError: CUDA does not start.
    """

    batches = True

    def __init__(self, graph: DetectorGraph) -> None:
        fix = "see `emotion-runtime --doctor`, or use --device cpu"
        self._session: Any = open_session(graph.content, name=graph.title, fix=fix, providers=(CUDA, CPU))
        # ONNX Runtime falls back to the CPU without an exception.
        if self._session.get_providers()[0] != CUDA:
            raise EmotionError(f"{graph.title}: CUDA did not start; {fix}")

    def run(self, frames: NDArray[np.uint8]) -> Outputs:
        """Return the outputs of the network."""
        outputs: Outputs = self._session.run(None, {INPUT: frames})
        return outputs

    def close(self) -> None:
        """Do nothing: the session is freed together with this object."""


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
