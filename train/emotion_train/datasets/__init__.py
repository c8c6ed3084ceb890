"""Readers of labelled data sets, on which frozen features are probed (paper Sec. 4.1)."""

from collections.abc import Callable
from pathlib import Path

from emotion_runtime.errors import EmotionError
from emotion_train.datasets import bold, emotic, liris, meld, moviegraphs, table
from emotion_train.datasets.base import Dataset
from emotion_train.datasets.table import Columns

_READERS: dict[str, Callable[[Path, str], Dataset]] = {
    "bold": bold.load,
    "moviegraphs": moviegraphs.load,
    "meld": meld.load,
    "emotic": emotic.load,
    "liris": liris.load,
}
NAMES = (*_READERS, "table")


def load_dataset(name: str, root: Path, split: str, columns: Columns | None = None) -> Dataset:
    """Load one split of a data set.

    Args:
        name: One of `NAMES`.
        root: The folder of the data set; for "table" the CSV or Parquet file.
        split: The data set's name for the split.
        columns: Names of the columns of a table.

    Raises:
        EmotionError: The data set or split does not exist, has another layout, or has no usable row.
    """
    if name == "table":
        return table.load(root, split, columns)
    if name not in _READERS:
        raise EmotionError(f"unknown data set {name!r}: expected one of {', '.join(NAMES)}")
    if columns is not None:
        raise EmotionError(
            f"{name}: column names were given, but only the data set 'table' has columns to be named"
        )
    if not root.is_dir():
        raise EmotionError(f"{name}: folder {root} does not exist: set --data to the folder of the data set")
    return _READERS[name](root, split)
