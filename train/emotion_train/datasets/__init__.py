"""Labelled data sets on which frozen features are probed (paper Sec. 4.1)."""

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
    """One split of a data set.

    name: one of `NAMES`. root: the folder that holds the data set's tree; for "table" the CSV or Parquet
    file. split: as the data set calls it. columns: what the columns of a table are called.

    Raises:
        EmotionError: no such data set or split, another layout, or no row that can be used.

    """
    if name == "table":
        return table.load(root, split, columns)
    if name not in _READERS:
        raise EmotionError(f"no data set {name!r}: expected one of {', '.join(NAMES)}")
    if columns is not None:
        raise EmotionError(f"{name}: names of columns were given; only a table has columns to be named")
    if not root.is_dir():
        raise EmotionError(f"{name}: no folder {root}: give the folder of the data set as --data")
    return _READERS[name](root, split)
