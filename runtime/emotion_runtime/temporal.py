"""Clips of embeddings to features."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends import Backend


class TemporalEncoder:
    """The graph `temporal_encoder`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def features(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Features (P, D) float32, not normalised, of P >= 1 clips (T, D) float32, oldest first; one call."""
        features: NDArray[np.float32] = self._backend.run({"embeddings": np.stack(clips)})["features"]
        return features
