"""GoEmotions in Ekman's grouping: sentences labelled with the emotion they express."""

import csv
import io
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
        EmotionError: The folder does not contain the split, or a file of it has another format.
    """
    table, names = folder / f"{split}.tsv", folder / "labels.txt"
    if not table.is_file() or not names.is_file():
        raise EmotionError(f"no GoEmotions split at {table}: expected {split}.tsv beside labels.txt")
    class_of = {i: ekman_index(name) for i, name in enumerate(_text(names).split())}
    texts: list[str] = []
    labels: list[int] = []
    rows = csv.reader(io.StringIO(_text(table), newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        for text, label in (row[:2] for row in rows if row):
            named = [class_of[int(each)] for each in label.split(",")]
            if len(named) == 1:  # a sentence with two emotions does not match one face
                texts.append(text)
                labels.append(named[0])
    except (ValueError, KeyError, csv.Error) as error:
        raise EmotionError(
            f"{table}, line {rows.line_num}: expected a sentence, a tab and the index of its label in "
            f"labels.txt, 0 to {len(class_of) - 1}; correct the line, or remove it"
        ) from error
    return Sentences(texts, np.array(labels, np.int64))


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise EmotionError(f"{path} is not UTF-8 text ({error}): save it as UTF-8") from error
