"""Emotic: people in single pictures with 26 categories and valence, arousal, dominance.

Source: paper Sec. 4.1, reference [29]; layout of the authors' evaluation, which is that of the data set's
usual conversion to CSV and NumPy files.
"""

import ast
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from emotion_runtime.manifest import AFFECT
from emotion_runtime.types import Box
from emotion_train.datasets.base import Dataset, Sample, SampleImage, Task
from emotion_train.datasets.bold import CATEGORIES
from emotion_train.datasets.boxes import inside
from emotion_train.datasets.frames import image_size
from emotion_train.datasets.layout import Layout
from emotion_train.datasets.rows import BadRow, assemble, finite, numbers, present

SPLITS = ("train", "val", "test")
TASKS = (Task("categories", "multi_label", tuple(sorted(CATEGORIES))), Task("vad", "regression", AFFECT))
SHORT_SIDE = 224  # the picture's short side becomes the input's: only the long one is cropped

_TREE = (
    "below --data: annotations_pre/{train,val,test}.csv with Folder, Filename, Image Size and BBox, "
    "annotations_pre/<split>_cat_arr.npy (N, 26), annotations_pre/<split>_cont_arr.npy (N, 3), "
    "emotic/<Folder>/<Filename>"
)


def load(root: Path, split: str) -> Dataset:
    """One split.

    A row is a person in a picture, and a sample has that one picture. The columns of the category file are
    the alphabetical categories. BBox is in pixels of a picture of Image Size (width, height); it is scaled
    when the file has another size. Group: the picture.

    Raises:
        EmotionError: the layout is another, or no row can be used.

    """
    layout = Layout("emotic", root, _TREE)
    layout.check_split(split, SPLITS)
    table = layout.file("annotations_pre", f"{split}.csv")
    rows = layout.records(table, ("Folder", "Filename", "Image Size", "BBox"))
    categories = _labels(layout, f"{split}_cat_arr.npy", len(rows), len(CATEGORIES))
    affect = _labels(layout, f"{split}_cont_arr.npy", len(rows), len(AFFECT))

    def sample(number: int) -> Sample:
        row = rows[number]
        name = f"{row['Folder']}/{row['Filename']}"
        path = root / "emotic" / name
        return Sample(
            key=f"{split}/{number}/{name}",
            group=name,
            images=(SampleImage(path, (_box(row, path),)),),
            targets={
                "categories": present(categories[number], "category"),
                "vad": finite(affect[number], "valence, arousal or dominance"),
            },
        )

    return assemble(layout, split, TASKS, range(len(rows)), sample, short_side=SHORT_SIDE)


def _labels(layout: Layout, name: str, rows: int, columns: int) -> NDArray[Any]:
    path = layout.file("annotations_pre", name)
    labels = layout.array(path, columns)
    if len(labels) != rows:
        raise layout.broken(path, f"{len(labels)} rows beside a table of {rows}")
    return labels


def _box(row: dict[str, str], path: Path) -> Box:
    """The person's box in pixels of the picture."""
    stated_width, stated_height = _numbers(row, "Image Size", 2)
    x1, y1, x2, y2 = _numbers(row, "BBox", 4)
    width, height = image_size(path)
    if stated_width <= 0 or stated_height <= 0:
        raise BadRow("Image Size without area")
    across, down = width / stated_width, height / stated_height
    return inside((x1 * across, y1 * down, x2 * across, y2 * down), width, height)


def _numbers(row: dict[str, str], column: str, count: int) -> list[float]:
    """A list written as Python would, such as `[86, 58, 564, 628]`."""
    try:
        cells = ast.literal_eval(row[column])
    except (ValueError, SyntaxError) as error:
        raise BadRow(f"{column} is no list of numbers") from error
    if not isinstance(cells, list | tuple) or len(cells) != count:
        raise BadRow(f"{column} is not a list of {count} numbers")
    return numbers(cells, column)
