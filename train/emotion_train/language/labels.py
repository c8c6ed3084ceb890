"""The seven Ekman classes in the one order that heads and reports of this project use."""

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError

EKMAN = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")

_SYNONYMS = {"angry": "anger", "happy": "happiness", "joy": "happiness", "sad": "sadness"}


def ekman_index(name: str) -> int:
    """Position in `EKMAN` of a class under any name that the data sets give it.

    Raises:
        EmotionError: it is none of the seven.

    """
    name = _SYNONYMS.get(name, name)
    if name not in EKMAN:
        raise EmotionError(f"class {name!r} is none of the seven: expected {', '.join(EKMAN)}")
    return EKMAN.index(name)


def rows_by_class(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Row numbers of each class, in `EKMAN` order. labels: (N,) positions in `EKMAN`."""
    return [np.flatnonzero(labels == c) for c in range(len(EKMAN))]


def missing_classes(labels: NDArray[np.int64]) -> list[str]:
    """Names of the classes that no row has; a classifier fitted without them would number the rest anew."""
    return [EKMAN[c] for c, rows in enumerate(rows_by_class(labels)) if not len(rows)]
