"""Your own data: a CSV or Parquet file with a row for each image, video clip or folder of frames."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Any

from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import AFFECT
from emotion_runtime.types import Box
from emotion_train.datasets.base import Dataset, Sample, Task
from emotion_train.datasets.boxes import inside
from emotion_train.datasets.layout import Layout
from emotion_train.datasets.media import Medium, open_medium
from emotion_train.datasets.rows import BadRow, assemble, class_of, finite, is_label, numbers, present
from emotion_train.datasets.table_rows import (
    TableRow,
    cell_text,
    cell_value,
    check_boxes,
    check_splits,
    row_box,
    warn_of_spellings,
)

_TREE = (
    "columns path and split; label (a class), several label_<class> (0 or 1), or values such as valence, "
    "arousal, dominance; optionally start, end, group, and box, x1 y1 x2 y2 or x y w h in pixels; options "
    "rename the columns"
)
_PREFIX = "label_"
BOXES = (  # columns that are read as boxes; x, y is the upper left corner
    ("x1", "y1", "x2", "y2"),
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("left", "top", "width", "height"),
)


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns. Empty ones are guessed: the names in parentheses are used if the table has them.

    Attributes:
        path: An image, a video or a folder of numbered frames, relative to the table's folder.
        split: train, val or test.
        start: Start in seconds of a video, or first frame number of a folder; empty cells mean the beginning.
        end: End in seconds of a video, or last frame number of a folder; empty cells mean the end.
        group: Cluster id of a row; without such a column, the path.
        box: Four columns (x1, y1, x2, y2, or x, y, w, h), or one (box) of the four numbers x1, y1, x2, y2, in
            pixels of the upright image; empty cells mean that there is no subject.
        labels: One column of class names (label), or a column of 0 and 1 for each class (label_<class>).
        values: Columns of numbers (valence, arousal, dominance). If labels or values are given, neither is
            guessed.
        classes: Class names in the order of the head; empty means those of the table, sorted.
    """

    path: str = "path"
    split: str = "split"
    start: str = "start"
    end: str = "end"
    group: str = "group"
    box: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def load(file: Path, split: str, columns: Columns | None = None) -> Dataset:
    """Load one split of a table.

    A sample has eight images, spread evenly from start to end, both included: frames of a video, or of a
    folder. A single image makes a sample of one. The box of a row is used for all of its images. Tasks are
    "label" (single_label) or "labels" (multi_label), and "values" (regression). The label set is that of
    all splits together, so that every split uses the same class numbers.

    Args:
        file: The CSV or Parquet file.
        split: The split.
        columns: Names of the columns.

    Raises:
        EmotionError: The file, a column or the split does not exist; no row is usable; or the split mixes
            single images with clips.
    """
    layout = Layout("table", file, _TREE)
    rows = read_rows(layout, file)
    if not rows:
        raise layout.broken(file, "no rows")
    columns = _resolved_columns(layout, columns or Columns(), list(rows[0]))
    check_boxes(layout, columns.box, rows)
    tasks = _tasks(columns, rows)
    chosen = [(index, row) for index, row in enumerate(rows) if cell_text(row, columns.split) == split]
    if not chosen:
        splits = sorted({cell_text(row, columns.split) for row in rows})
        raise layout.broken(file, f"no row of split {split!r} (it has {', '.join(splits)})")
    shown = (columns.path, columns.start, columns.end, *columns.box)
    check_splits(layout, rows, (columns.split, split), shown, columns.group)
    medium_of = cache(open_medium)

    def sample(indexed_row: tuple[int, TableRow]) -> Sample:
        index, row = indexed_row
        path = cell_text(row, columns.path)
        if not path:
            raise BadRow("no path")
        targets = _targets(row, columns, tasks)
        medium = medium_of(existing_path(file.parent, path))
        span = _number(row, columns.start), _number(row, columns.end)
        return Sample(
            key=f"{split}/{index}/{path}",
            group=cell_text(row, columns.group) or path,
            images=medium.images(span, _boxes(row, columns.box, medium)),
            targets=targets,
        )

    data = assemble(layout, split, tasks, chosen, sample)
    if len({len(sample.images) for sample in data.samples}) > 1:
        raise EmotionError(f"table {file}: split {split} mixes single images with clips: use one kind only")
    return data


def splits_of(file: Path) -> set[str]:
    """Return the splits that the rows of a table name, in the column `split`.

    Raises:
        EmotionError: The file does not exist, or is not a table.
    """
    return {cell_text(row, "split") for row in read_rows(Layout("table", file, _TREE), file)}


def read_rows(layout: Layout, file: Path) -> list[TableRow]:
    """Read the rows by column name; empty cells are None."""
    if not file.is_file():
        raise EmotionError(f"table: no file {file}: give a CSV or Parquet file as --data")
    if file.suffix.lower() == ".csv":
        rows: list[TableRow] = [dict(record) for record in layout.records(file, ())]
    elif file.suffix.lower() == ".parquet":
        rows = _parquet(layout, file)
    else:
        raise EmotionError(f"table {file}: suffix {file.suffix!r}, expected .csv or .parquet")
    return [{name: None if _empty(cell) else cell for name, cell in row.items()} for row in rows]


def _parquet(layout: Layout, file: Path) -> list[TableRow]:
    import pyarrow as pa  # noqa: PLC0415 - slow
    from pyarrow import parquet  # noqa: PLC0415 - slow

    try:
        table = parquet.read_table(file)
        layout.check_names(file, table.column_names)
        rows: list[TableRow] = table.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise layout.broken(file, f"not a Parquet file ({str(error).splitlines()[0]})") from error
    return rows


def _empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _resolved_columns(layout: Layout, columns: Columns, present_columns: list[str]) -> Columns:
    """Guess the columns that are not named, and check that all exist. present_columns: those of the table."""
    if len(columns.box) not in (0, 1, 4):
        raise EmotionError(
            f"table: box columns {', '.join(columns.box)}: expected x1, y1, x2, y2, or one column"
        )
    box = columns.box or next(
        (names for names in (*BOXES, ("box",)) if set(names) <= set(present_columns)), ()
    )
    labels, values = columns.labels, columns.values
    if not labels and not values:
        prefixed = tuple(name for name in present_columns if name.startswith(_PREFIX))
        labels = ("label",) if "label" in present_columns else prefixed
        values = tuple(name for name in AFFECT if name in present_columns)
    optional = {"start": columns.start, "end": columns.end, "group": columns.group}
    renamed = [name for default, name in optional.items() if name != default]  # a renamed column must exist
    missing = [
        name
        for name in (columns.path, columns.split, *renamed, *box, *labels, *values)
        if name not in present_columns
    ]
    if missing:
        raise layout.broken(
            layout.root, f"no column {', '.join(missing)} (it has {', '.join(present_columns)})"
        )
    if not labels and not values:
        raise layout.broken(
            layout.root, f"no column of labels or values (it has {', '.join(present_columns)})"
        )
    return replace(columns, box=box, labels=labels, values=values)


def _names_classes(columns: Columns) -> bool:
    """Return whether the labels are one column of class names."""
    return len(columns.labels) == 1 and not columns.labels[0].startswith(_PREFIX)


def _tasks(columns: Columns, rows: Sequence[TableRow]) -> tuple[Task, ...]:
    tasks = []
    if _names_classes(columns):
        names_used = {_label(row, columns) for row in rows}
        classes = tuple(unicodedata.normalize("NFC", name) for name in columns.classes)
        if not classes:
            warn_of_spellings(filter(is_label, names_used))
        tasks.append(Task("label", "single_label", classes or tuple(sorted(filter(is_label, names_used)))))
    elif columns.labels:
        names = tuple(name.removeprefix(_PREFIX) for name in columns.labels)
        tasks.append(Task("labels", "multi_label", names))
    if columns.values:
        tasks.append(Task("values", "regression", columns.values))
    return tuple(tasks)


def _targets(row: TableRow, columns: Columns, tasks: Sequence[Task]) -> dict[str, NDArray[Any]]:
    targets: dict[str, NDArray[Any]] = {}
    for task in tasks:
        if task.kind == "single_label":
            targets[task.name] = class_of(_label(row, columns), task.labels)
        elif task.kind == "multi_label":
            targets[task.name] = present([row.get(name) for name in columns.labels], "label")
        else:
            targets[task.name] = finite([row.get(name) for name in columns.values], "value")
    return targets


def _label(row: TableRow, columns: Columns) -> str:
    """Return the class that a row names; letters with accents have two spellings in Unicode, this is one."""
    return unicodedata.normalize("NFC", cell_text(row, columns.labels[0]))


def existing_path(folder: Path, path: str) -> Path:
    """Return the file or folder of a row; tables from Windows have backslashes in their paths."""
    if "\\" in path and not (folder / path).exists():
        return folder / PureWindowsPath(path).as_posix()
    return folder / path


def _number(row: TableRow, column: str) -> float | None:
    cell = cell_value(row, column)
    return None if cell is None else numbers([cell], "start or end")[0]


def _boxes(row: TableRow, columns: Sequence[str], medium: Medium) -> tuple[Box, ...]:
    """Return the row's box, if it has one."""
    box = row_box(row, columns)
    return () if box is None else (inside(box, medium.width, medium.height),)
