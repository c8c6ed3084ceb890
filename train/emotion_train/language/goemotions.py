"""GoEmotions in Ekman's grouping: sentences labelled with the emotion they express."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_train.language.labels import ekman_index


@dataclass(frozen=True, slots=True)
class Sentences:
    """Labelled sentences.

    Attributes:
        texts: N sentences.
        labels: (N,) int64, positions in `EKMAN`.
    """

    texts: list[str]
    labels: NDArray[np.int64]


def load_sentences(folder: Path, split: str) -> Sentences:
    """Load the sentences of a split (`train`, `dev` or `test`) that have exactly one emotion.

    Raises:
        EmotionError: The folder does not contain the split.
    """
    table, names = folder / f"{split}.tsv", folder / "labels.txt"
    if not table.is_file() or not names.is_file():
        raise EmotionError(f"no GoEmotions split at {table}: expected {split}.tsv beside labels.txt")
    classes = [ekman_index(name) for name in names.read_text(encoding="utf-8").split()]
    texts: list[str] = []
    labels: list[int] = []
    with table.open(encoding="utf-8", newline="") as lines:
        for text, label, *_ in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            if "," not in label:  # a sentence with two emotions does not match one face
                texts.append(text)
                labels.append(classes[int(label)])
    return Sentences(texts, np.array(labels, np.int64))
