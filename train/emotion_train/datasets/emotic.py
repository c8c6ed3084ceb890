"""Emotic: people in single images, labelled with 26 categories and with valence, arousal and dominance.

Source: paper Sec. 4.1, reference [29]; the layout is that of the authors' evaluation, the common conversion
of the data set to CSV and NumPy files.
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
SHORT_SIDE = 224  # the size of the input, so that only the long side is cropped

_TREE = (
    "below --data: annotations_pre/{train,val,test}.csv with Folder, Filename, Image Size and BBox, "
    "annotations_pre/<split>_cat_arr.npy (N, 26), annotations_pre/<split>_cont_arr.npy (N, 3), "
    "emotic/<Folder>/<Filename>"
)


def load(root: Path, split: str) -> Dataset:
    """Load one split.

    A row is a person in an image. The columns of the category file are the categories in alphabetical
    order. BBox is in pixels of an image of Image Size (width, height); it is scaled if the file has another
    size. A group is an image.

    Raises:
        EmotionError: The layout is another, or no row is usable.
    """
    layout = Layout("emotic", root, _TREE)
    layout.check_split(split, SPLITS)
    table = layout.file("annotations_pre", f"{split}.csv")
    rows = layout.records(table, ("Folder", "Filename", "Image Size", "BBox"))
    categories = _labels(layout, f"{split}_cat_arr.npy", len(rows), len(CATEGORIES))
    affect = _labels(layout, f"{split}_cont_arr.npy", len(rows), len(AFFECT))

    def sample(index: int) -> Sample:
        row = rows[index]
        name = f"{row['Folder']}/{row['Filename']}"
        path = root / "emotic" / name
        return Sample(
            key=f"{split}/{index}/{name}",
            group=name,
            images=(SampleImage(path, (_box(row, path),)),),
            targets={
                "categories": present(categories[index], "category"),
                "vad": finite(affect[index], "valence, arousal or dominance"),
            },
        )

    return assemble(layout, split, TASKS, range(len(rows)), sample, short_side=SHORT_SIDE)


def _labels(layout: Layout, name: str, rows: int, columns: int) -> NDArray[Any]:
    path = layout.file("annotations_pre", name)
    labels = layout.array(path, columns)
    if len(labels) != rows:
        raise layout.broken(path, f"{len(labels)} rows, but the table has {rows}")
    return labels


def _box(row: dict[str, str], path: Path) -> Box:
    """Return the person's box in pixels of the image."""
    stated_width, stated_height = _numbers(row, "Image Size", 2)
    x1, y1, x2, y2 = _numbers(row, "BBox", 4)
    width, height = image_size(path)
    if stated_width <= 0 or stated_height <= 0:
        raise BadRow("Image Size without area")
    if width != height and (stated_width, stated_height) == (height, width):
        raise BadRow("Image Size and BBox of the image before its EXIF rotation")
    across, down = width / stated_width, height / stated_height
    return inside((x1 * across, y1 * down, x2 * across, y2 * down), width, height)


def _numbers(row: dict[str, str], column: str, count: int) -> list[float]:
    """Parse a list in Python syntax, such as `[86, 58, 564, 628]`."""
    try:
        cells = ast.literal_eval(row[column])
    except (ValueError, SyntaxError) as error:
        raise BadRow(f"{column} is not a list of numbers") from error
    if not isinstance(cells, list | tuple) or len(cells) != count:
        raise BadRow(f"{column} is not a list of {count} numbers")
    return numbers(cells, column)
