"""One's own data: a CSV or Parquet file with a row for every picture, clip, or folder of frames."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import AFFECT
from emotion_runtime.types import Box
from emotion_train.datasets.base import Dataset, Sample, Task
from emotion_train.datasets.boxes import inside
from emotion_train.datasets.layout import Layout
from emotion_train.datasets.media import Medium, open_medium
from emotion_train.datasets.rows import BadRow, assemble, class_of, finite, numbers, present

_TREE = (
    "columns path and split; label (a class), several label_<class> (0 or 1), or values such as valence, "
    "arousal, dominance; at will start, end, box or x1 y1 x2 y2, group; or name yours with the options"
)
_PREFIX = "label_"
_CORNERS = ("x1", "y1", "x2", "y2")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns are called; what is empty is guessed by the names in brackets.

    path: of a picture, a video or a folder of numbered frames, relative to the table's folder. split: train,
    val or test. start, end: seconds of a video, or first and last number of a folder's frames; the whole of
    it where there are none. group: what rows hang together by; the path without such a column.
    box: four columns (x1, y1, x2, y2), or one (box) of four numbers; pixels of the picture; empty cells mean
    that nobody is meant. labels: one column of class names (label), or one of 0 and 1 for each class
    (label_<class>). values: columns of numbers (valence, arousal, dominance). Once labels or values are
    given, neither is guessed.
    classes: the class names in the order of the head; empty: those of the table, sorted.
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
    """One split of a table.

    A sample has eight pictures, spread over start .. end, both ends among them: moments of a video, frames of
    a folder by their order. A single picture makes a sample of one. The box stands for all pictures of a row.
    Tasks: "label" (single_label) or "labels" (multi_label), and "values" (regression). The classes of all
    splits together make the label set, so that every split numbers them alike.

    Raises:
        EmotionError: no such file, column or split; no row can be used; single pictures mixed with clips.

    """
    layout = Layout("table", file, _TREE)
    rows = _rows(layout, file)
    if not rows:
        raise layout.broken(file, "no rows")
    columns = _known(layout, columns or Columns(), list(rows[0]))
    tasks = _tasks(columns, rows)
    chosen = [(number, row) for number, row in enumerate(rows) if _text(row, columns.split) == split]
    if not chosen:
        there = sorted({_text(row, columns.split) for row in rows})
        raise layout.broken(file, f"no row of split {split!r} (it has {', '.join(there)})")
    medium_of = cache(open_medium)

    def sample(numbered: tuple[int, Row]) -> Sample:
        number, row = numbered
        place = _text(row, columns.path)
        if not place:
            raise BadRow("no path")
        targets = _targets(row, columns, tasks)
        medium = medium_of(file.parent / place)
        span = _number(row, columns.start), _number(row, columns.end)
        return Sample(
            key=f"{split}/{number}/{place}",
            group=_text(row, columns.group) or place,
            images=medium.images(span, _boxes(row, columns.box, medium)),
            targets=targets,
        )

    data = assemble(layout, split, tasks, chosen, sample)
    if len({len(sample.images) for sample in data.samples}) > 1:
        raise EmotionError(
            f"table {file}: split {split} mixes single pictures with clips; give one kind only"
        )
    return data


def _rows(layout: Layout, file: Path) -> list[Row]:
    """Every row by the names of its columns, empty cells None."""
    if not file.is_file():
        raise EmotionError(f"table: no file {file}: give a CSV or Parquet file as --data")
    if file.suffix.lower() == ".csv":
        rows: list[Row] = [dict(record) for record in layout.records(file, ())]
    elif file.suffix.lower() == ".parquet":
        rows = _parquet(layout, file)
    else:
        raise EmotionError(f"table {file}: suffix {file.suffix!r}, expected .csv or .parquet")
    return [{name: None if _empty(cell) else cell for name, cell in row.items()} for row in rows]


def _parquet(layout: Layout, file: Path) -> list[Row]:
    import pyarrow as pa  # noqa: PLC0415 - slow
    from pyarrow import parquet  # noqa: PLC0415 - slow

    try:
        rows: list[Row] = parquet.read_table(file).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise layout.broken(file, f"no Parquet file ({str(error).splitlines()[0]})") from error
    return rows


def _empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip())


def _known(layout: Layout, columns: Columns, there: list[str]) -> Columns:
    """The columns with guesses for what is not named, all of them there."""
    if len(columns.box) not in (0, 1, 4):
        raise EmotionError(
            f"table: box columns {', '.join(columns.box)}: expected x1, y1, x2, y2, or one column"
        )
    box = columns.box or (_CORNERS if set(_CORNERS) <= set(there) else ("box",) if "box" in there else ())
    labels, values = columns.labels, columns.values
    if not labels and not values:
        prefixed = tuple(name for name in there if name.startswith(_PREFIX))
        labels = ("label",) if "label" in there else prefixed
        values = tuple(name for name in AFFECT if name in there)
    at_will = {"start": columns.start, "end": columns.end, "group": columns.group}
    asked = [name for usual, name in at_will.items() if name != usual]  # a name of one's own must be there
    missing = [
        name for name in (columns.path, columns.split, *asked, *box, *labels, *values) if name not in there
    ]
    if missing:
        raise layout.broken(layout.root, f"no column {', '.join(missing)} (it has {', '.join(there)})")
    if not labels and not values:
        raise layout.broken(layout.root, f"no column of labels or values (it has {', '.join(there)})")
    return replace(columns, box=box, labels=labels, values=values)


def _names_classes(columns: Columns) -> bool:
    """Whether the labels are one column of class names."""
    return len(columns.labels) == 1 and not columns.labels[0].startswith(_PREFIX)


def _tasks(columns: Columns, rows: Sequence[Row]) -> tuple[Task, ...]:
    tasks = []
    if _names_classes(columns):
        there = {_text(row, columns.labels[0]) for row in rows} - {""}
        tasks.append(Task("label", "single_label", columns.classes or tuple(sorted(there))))
    elif columns.labels:
        names = tuple(name.removeprefix(_PREFIX) for name in columns.labels)
        tasks.append(Task("labels", "multi_label", names))
    if columns.values:
        tasks.append(Task("values", "regression", columns.values))
    return tuple(tasks)


def _targets(row: Row, columns: Columns, tasks: Sequence[Task]) -> dict[str, NDArray[Any]]:
    targets: dict[str, NDArray[Any]] = {}
    for task in tasks:
        if task.kind == "single_label":
            targets[task.name] = class_of(_text(row, columns.labels[0]), task.labels)
        elif task.kind == "multi_label":
            targets[task.name] = present([row.get(name) for name in columns.labels], "label")
        else:
            targets[task.name] = finite([row.get(name) for name in columns.values], "value")
    return targets


def _cell(row: Row, column: str) -> Any:
    """A cell, None for an empty one; NaN is how a column of numbers says empty."""
    cell = row.get(column)
    return None if isinstance(cell, float) and math.isnan(cell) else cell


def _text(row: Row, column: str) -> str:
    """A cell as text without surrounding blanks, "" for an empty one."""
    cell = _cell(row, column)
    return "" if cell is None else str(cell).strip()


def _number(row: Row, column: str) -> float | None:
    cell = _cell(row, column)
    return None if cell is None else numbers([cell], "start or end")[0]


def _boxes(row: Row, columns: Sequence[str], medium: Medium) -> tuple[Box, ...]:
    """The row's box, or none."""
    cells = [_cell(row, name) for name in columns]
    if all(cell is None for cell in cells):
        return ()
    if len(cells) == 1:
        # "1, 2, 3, 4", "1 2 3 4", "[1, 2, 3, 4]", or a list in a Parquet file
        cells = cells[0] if isinstance(cells[0], list) else re.findall(r"[^\s,;\[\]()]+", str(cells[0]))
    if len(cells) != 4:
        raise BadRow("box not of four numbers")
    x1, y1, x2, y2 = numbers(cells, "box")
    return (inside((x1, y1, x2, y2), medium.width, medium.height),)
