"""From annotated rows to a data set: bad rows are left out and counted, never guessed at."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_train.datasets.base import Dataset, Sample, Task
from emotion_train.datasets.layout import Layout

Row = TypeVar("Row")

POSITIVE = 0.5  # the least score of a category that counts as present
_LARGEST = float(np.finfo(np.float32).max)  # targets are float32


class BadRow(Exception):  # noqa: N818 - reads as what it is
    """A row that cannot be used; its text is the reason by which `Dataset.skipped` counts it."""


def assemble(
    layout: Layout,
    split: str,
    tasks: tuple[Task, ...],
    rows: Iterable[Row],
    make: Callable[[Row], Sample],
    *,
    short_side: int | None = None,
) -> Dataset:
    """The samples that `make` gives; the rows for which it raises `BadRow` are counted by reason.

    Raises:
        EmotionError: no row is left.

    """
    samples: list[Sample] = []
    skipped: Counter[str] = Counter()
    for row in rows:
        try:
            samples.append(make(row))
        except BadRow as bad:  # noqa: PERF203 - a row's files are read in here: the try costs nothing
            skipped[str(bad)] += 1
    if not samples:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in skipped.most_common(3)) or "no rows"
        raise EmotionError(
            f"{layout.name} {split}: none of {skipped.total()} rows in {layout.root} can be used "
            f"({reasons}); expected {layout.tree}"
        )
    return Dataset(layout.name, split, tasks, tuple(samples), dict(skipped), short_side)


def numbers(cells: Sequence[Any], what: str) -> list[float]:
    """Cells of a row as numbers.

    Raises:
        BadRow: one is no number, NaN or infinite, also as float32.

    """
    try:
        values = [float(cell) for cell in cells]
    except (TypeError, ValueError) as error:
        raise BadRow(f"{what} not a number") from error
    if not all(abs(value) <= _LARGEST for value in values):  # nor is NaN
        raise BadRow(f"{what} NaN or infinite")
    return values


def finite(cells: Sequence[Any], what: str) -> NDArray[np.float32]:
    """Cells of a row as a target: (N,) float32.

    Raises:
        BadRow: one is no number, NaN or infinite.

    """
    return np.array(numbers(cells, what), np.float32)


def present(cells: Sequence[Any], what: str) -> NDArray[np.float32]:
    """Scores in [0, 1] as (N,) float32: 1 from a score of 0.5 on, else 0.

    Raises:
        BadRow: one is no number, or outside of [0, 1].

    """
    scores = finite(cells, what)
    if scores.min() < 0 or scores.max() > 1:
        raise BadRow(f"{what} outside of 0 to 1")
    return (scores >= POSITIVE).astype(np.float32)


def whole(cell: Any, what: str) -> int:
    """A whole number, also when written as 3.0.

    Raises:
        BadRow: it is none.

    """
    value = numbers([cell], what)[0]
    if value != int(value):
        raise BadRow(f"{what} not a whole number")
    return int(value)


def class_of(name: str, labels: Sequence[str]) -> NDArray[np.int64]:
    """Position of a class, as a target: () int64.

    Raises:
        BadRow: the name is empty or not in `labels`.

    """
    if not name:
        raise BadRow("no label")
    if name not in labels:
        raise BadRow(f"label out of the known set: {name!r}")
    return np.array(labels.index(name), np.int64)


def several_of(names: Iterable[str], labels: Sequence[str]) -> NDArray[np.float32]:
    """Which of the labels are named, as a target: (C,) float32 of 0 and 1.

    Raises:
        BadRow: none is named, or one that is not in `labels`.

    """
    target = np.zeros(len(labels), np.float32)
    for name in names:
        target[int(class_of(name, labels))] = 1
    if not target.any():
        raise BadRow("no label")
    return target
