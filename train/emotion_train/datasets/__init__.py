"""Labelled data sets on which frozen features are probed (paper Sec. 4.1)."""

from collections.abc import Callable
from pathlib import Path

from emotion_runtime.errors import EmotionError
from emotion_train.datasets import bold, emotic, liris, meld, moviegraphs
from emotion_train.datasets.base import Dataset

_READERS: dict[str, Callable[[Path, str], Dataset]] = {
    "bold": bold.load,
    "moviegraphs": moviegraphs.load,
    "meld": meld.load,
    "emotic": emotic.load,
    "liris": liris.load,
}
NAMES = tuple(_READERS)


def load_dataset(name: str, root: Path, split: str) -> Dataset:
    """One split of a data set.

    name: one of `NAMES`. root: the folder that holds the data set's tree. split: as the data set calls it.

    Raises:
        EmotionError: no such data set or split, another layout, or no row that can be used.

    """
    if name not in NAMES:
        raise EmotionError(f"no data set {name!r}: expected one of {', '.join(NAMES)}")
    if not root.is_dir():
        raise EmotionError(f"{name}: no folder {root}: give the folder of the data set as --data")
    return _READERS[name](root, split)
