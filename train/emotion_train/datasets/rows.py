"""From annotated rows to a data set: unusable rows are left out and counted, never repaired."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_train.datasets.base import Dataset, Sample, Task
from emotion_train.datasets.layout import Layout

RowT = TypeVar("RowT")

MIN_POSITIVE_SCORE = 0.5  # categories with at least this score are present
_LARGEST = float(np.finfo(np.float32).max)  # targets are float32
# As pandas, NumPy, R, Excel and databases write missing values. A class may be called "none".
_NO_VALUE = {"", "nan", "NaN", "NAN", "None", "N/A", "n/a", "NA", "#N/A", "<NA>", "NaT", "null", "NULL"}

_log = logging.getLogger(__name__)


class BadRow(Exception):  # noqa: N818 - not an error of the program
    """A row cannot be used.

    Args:
        reason: The reason under which `Dataset.skipped` counts it.
        example: What this row has, such as the path that does not exist; named for the first row of a reason.
    """

    def __init__(self, reason: str, example: object = None) -> None:
        super().__init__(reason)
        self.example = example


def assemble(
    layout: Layout,
    split: str,
    tasks: tuple[Task, ...],
    rows: Iterable[RowT],
    make: Callable[[RowT], Sample],
    *,
    short_side: int | None = None,
) -> Dataset:
    """Make samples from rows, and count the rows that are unusable; a warning says how many and why.

    Args:
        layout: The files of the data set.
        split: The split.
        tasks: What the rows have targets for.
        rows: The rows.
        make: Makes a sample, or raises `BadRow`.
        short_side: See `Dataset.short_side`.

    Raises:
        EmotionError: No row is usable.
    """
    samples: list[Sample] = []
    bad_rows: list[BadRow] = []
    for row in rows:
        try:
            samples.append(make(row))
        except BadRow as bad:  # noqa: PERF203 - reading the row's files takes much longer
            bad_rows.append(bad)
    if not samples:
        raise EmotionError(
            f"{layout.name} {split}: none of {len(bad_rows)} rows in {layout.root} are usable "
            f"({reasons_of(bad_rows)}); expected {layout.tree}"
        )
    skipped = warn_of_bad_rows(f"{layout.name} {split}", bad_rows, len(bad_rows) + len(samples))
    return Dataset(layout.name, split, tasks, tuple(samples), skipped, short_side)


def reasons_of(bad_rows: Sequence[BadRow]) -> str:
    """Return the most frequent reasons with their numbers of rows, each with an example if there is one."""
    examples: dict[str, str] = {}
    for bad in bad_rows:
        examples.setdefault(str(bad), f", such as {bad.example}" if bad.example else "")
    counts = Counter(map(str, bad_rows)).most_common(3)
    return "; ".join(f"{reason}: {count}{examples[reason]}" for reason, count in counts) or "no rows"


def warn_of_bad_rows(name: str, bad_rows: Sequence[BadRow], total: int) -> dict[str, int]:
    """Warn of rows that are left out, if there are any, and return their numbers by reason.

    Args:
        name: What they are rows of.
        bad_rows: Why each cannot be used.
        total: Number of rows, with those that can be used.
    """
    if bad_rows:
        _log.warning("%s: %d of %d rows are left out (%s)", name, len(bad_rows), total, reasons_of(bad_rows))
    return dict(Counter(map(str, bad_rows)))


def numbers(cells: Sequence[Any], what: str) -> list[float]:
    """Convert cells of a row to numbers.

    Args:
        cells: The cells.
        what: Name of the numbers, for the message.

    Raises:
        BadRow: A cell is not a number, or is NaN or infinite, also after conversion to float32.
    """
    try:
        values = [float(cell) for cell in cells]
    except (TypeError, ValueError) as error:
        raise BadRow(f"{what} not a number") from error
    if not all(abs(value) <= _LARGEST for value in values):  # this is False for NaN, too
        raise BadRow(f"{what} NaN or infinite")
    return values


def finite(cells: Sequence[Any], what: str) -> NDArray[np.float32]:
    """Convert cells of a row to a target (N,) float32. Raises the errors of `numbers`."""
    return np.array(numbers(cells, what), np.float32)


def present(cells: Sequence[Any], what: str) -> NDArray[np.float32]:
    """Convert scores in [0, 1] to a target (N,) float32: 1 for scores of at least 0.5, otherwise 0.

    Raises:
        BadRow: A score is not a number, or is outside [0, 1].
    """
    scores = finite(cells, what)
    if scores.min() < 0 or scores.max() > 1:
        raise BadRow(f"{what} outside 0 to 1")
    return (scores >= MIN_POSITIVE_SCORE).astype(np.float32)


def whole(cell: Any, what: str) -> int:
    """Convert a cell to an integer; 3.0 is accepted.

    Raises:
        BadRow: The cell is not an integer.
    """
    value = numbers([cell], what)[0]
    if value != int(value):
        raise BadRow(f"{what} not a whole number")
    return int(value)


def is_label(text: str) -> bool:
    """Return whether a text names a class; programs write "nan", "None" and the like for no value."""
    return text not in _NO_VALUE


def class_of(name: str, labels: Sequence[str]) -> NDArray[np.int64]:
    """Convert the name of a class to a target, its position in `labels`: () int64.

    Raises:
        BadRow: The name is empty or not in `labels`.
    """
    if name not in labels and not is_label(name):
        raise BadRow("no label")
    if name not in labels:
        raise BadRow(f"unknown label: {name!r}")
    return np.array(labels.index(name), np.int64)


def several_of(names: Iterable[str], labels: Sequence[str]) -> NDArray[np.float32]:
    """Convert names of classes to a target: (C,) float32, 1 for the classes named, otherwise 0.

    Raises:
        BadRow: There are no names, or one is not in `labels`.
    """
    target = np.zeros(len(labels), np.float32)
    for name in names:
        target[int(class_of(name, labels))] = 1
    if not target.any():
        raise BadRow("no label")
    return target
