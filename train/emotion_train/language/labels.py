"""The seven Ekman classes, in the order that all heads and reports of this project use."""

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError

EKMAN = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")

_SYNONYMS = {"angry": "anger", "happy": "happiness", "joy": "happiness", "sad": "sadness"}


def ekman_index(name: str) -> int:
    """Return the position of a class in `EKMAN`; synonyms that data sets use are accepted.

    Raises:
        EmotionError: The name is not one of the seven classes.
    """
    name = _SYNONYMS.get(name, name)
    if name not in EKMAN:
        raise EmotionError(f"class {name!r} is unknown: expected one of {', '.join(EKMAN)}")
    return EKMAN.index(name)


def rows_by_class(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the rows of each class, in `EKMAN` order. labels: (N,) positions in `EKMAN`."""
    return [np.flatnonzero(labels == c) for c in range(len(EKMAN))]


def missing_classes(labels: NDArray[np.int64]) -> list[str]:
    """Return the classes without rows. A classifier fitted without them would renumber the others."""
    return [EKMAN[c] for c, rows in enumerate(rows_by_class(labels)) if not len(rows)]
