"""Tables of a user with a few rows, and what is read from them."""

from pathlib import Path

from trees import write_csv

from emotion_train.datasets import load_dataset
from emotion_train.datasets.base import Dataset
from emotion_train.datasets.table import Columns

RATE, FRAMES = 10, 40


def table(
    folder: Path, header: str, *rows: str, split: str = "train", columns: Columns | None = None
) -> Dataset:
    file = write_csv(folder / "table.csv", [line.split(",") for line in (header, *rows)])
    return load_dataset("table", file, split, columns)


def numbers(data: Dataset, row: int = 0) -> list[int]:
    return [int(p.path.stem[-3:]) for p in data.samples[row].images]
