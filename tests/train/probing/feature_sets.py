"""Features drawn about one direction a class, with targets of every kind."""

from typing import Any

import numpy as np

from emotion_train.datasets.base import Task
from emotion_train.probing.features import FeatureSet

DIM = 8
NAMES = ("anger", "joy", "fear", "calm")
SINGLE = Task("emotion", "single_label", NAMES)
MULTI = Task("emotions", "multi_label", NAMES)
VALUES = Task("vad", "regression", ("valence", "arousal"))


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def blobs(count: int, *, noise: float, name: str = "train", seed: int = 0, size: int = 1) -> FeatureSet:
    """Class i lies about axis i; `size` neighbouring rows make a group."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % len(NAMES))
    features = unit(np.eye(DIM)[labels] + noise * rng.normal(size=(count, DIM)))
    several = (np.eye(len(NAMES))[labels] + (rng.random((count, len(NAMES))) < 0.2) > 0).astype(np.float32)
    values = (features @ np.arange(2 * DIM).reshape(DIM, 2) / 8 + 0.1 * rng.normal(size=(count, 2))).astype(
        np.float32
    )
    targets: dict[str, Any] = {"emotion": labels, "emotions": several, "vad": values}
    return FeatureSet(name, features, targets, tuple(f"g{row // size}" for row in range(count)), {})
