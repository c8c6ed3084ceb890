"""Keep the features of the latest encodings until a sink takes them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.vectors import l2_normalise


class FeatureLog:
    """The features of persons by frame, from the temporal encoder to whoever writes them.

    Only frames whose events were not written yet are kept.

    Args:
        width: D, length of a feature vector.
        labels: Names of the emotions that the head predicts.

    Attributes:
        width: See above.
        labels: See above.
    """

    def __init__(self, width: int, labels: tuple[str, ...]) -> None:
        self.width, self.labels = width, labels
        self._rows: dict[tuple[str, int], dict[int, NDArray[np.float32]]] = {}

    def add(self, source: str, frame: int, person_id: int, features: NDArray[np.float32]) -> None:
        """Keep the features (D,) of a person's clip that ends with a frame."""
        unit = l2_normalise(features[None])[0].astype(np.float32)
        self._rows.setdefault((source, frame), {})[person_id] = unit

    def take(self, source: str, frame: int) -> Mapping[int, NDArray[np.float32]]:
        """Return and forget the features of a frame, by the person's id: (D,) float32 of length 1."""
        return self._rows.pop((source, frame), {})
