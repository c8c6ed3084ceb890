"""Predict the emotion of each row of a labelled table with the whole runtime."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from emotion_runtime.errors import EmotionError
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.types import Box, Person
from emotion_train.datasets.base import SampleImage
from emotion_train.datasets.images import load_image
from emotion_train.datasets.layout import Layout
from emotion_train.datasets.rows import BadRow, numbers, reasons_of, warn_of_bad_rows
from emotion_train.datasets.table import BOXES, existing_path, read_rows
from emotion_train.datasets.table_rows import TableRow, cell_text, check_boxes, row_box
from emotion_train.language.labels import EKMAN, ekman_index
from emotion_train.probing.subgroups import EMPTY, Rows

_TREE = "columns path, label and those of --columns; optionally time, group, and a box in pixels"
# A detected head belongs to a row's box if this fraction of it lies in the box: annotated boxes are often
# those of faces or of whole people.
_INSIDE = 0.5


@dataclass(frozen=True, slots=True)
class RowColumns:
    """Names of the columns.

    Attributes:
        path: Image or video, relative to the table's folder.
        label: Emotion, a label of the head.
        time: Seconds in a video; the table need not have it.
        group: Cluster; without such a column, the path.
        box: Columns of a box, see `datasets.table.Columns`; empty: guessed.
        measured: Columns by whose values predictions are measured.
    """

    path: str = "path"
    label: str = "label"
    time: str = "time"
    group: str = "group"
    box: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()


def predict_rows(file: Path, columns: RowColumns, *, bundle: str, detector: str) -> Rows:
    """Predict every row of a table.

    Args:
        file: The CSV or Parquet file.
        columns: Names of its columns.
        bundle: Name or folder of a bundle.
        detector: Detector of the runtime.

    Raises:
        EmotionError: The file, a column or the bundle does not exist, or no row is usable.
    """
    layout = Layout("table", file, _TREE)
    table = read_rows(layout, file)
    box = _checked(layout, table, columns)
    with EmotionRuntime(bundle, detector) as runtime:
        names = runtime.labels
        predicted = [_predict(runtime, row, columns, box, file.parent) for row in tqdm(table, unit="row")]
    bad_rows = [each for each in predicted if isinstance(each, BadRow)]
    kept = [each for each in predicted if not isinstance(each, BadRow)]
    if not kept:
        raise layout.broken(file, f"no row is usable ({reasons_of(bad_rows)})")
    return Rows(
        names,
        np.array([label for _, label, _ in kept], np.int64),
        np.array([_probabilities(person, names) for _, _, person in kept]),
        np.array([person is not None and person.top is not None for _, _, person in kept]),
        tuple(cell_text(row, columns.group) or cell_text(row, columns.path) for row, _, _ in kept),
        {
            name: tuple(cell_text(row, name) or EMPTY for row, _, _ in kept)
            for name in dict.fromkeys(columns.measured)
        },
        warn_of_bad_rows("table", bad_rows, len(predicted)),
    )


def _checked(layout: Layout, table: list[TableRow], columns: RowColumns) -> tuple[str, ...]:
    """Return the columns of the box, if there are any; refuse a table that lacks a column."""
    present = list(table[0]) if table else []
    wanted = (columns.path, columns.label, *columns.box, *columns.measured)
    missing = [name for name in dict.fromkeys(wanted) if name not in present]
    if missing:
        raise layout.broken(
            layout.root, f"no column {', '.join(missing)} (it has {', '.join(present) or 'no rows'})"
        )
    guessed = (names for names in (*BOXES, ("box",)) if set(names) <= set(present))
    box = columns.box or next(guessed, ())
    check_boxes(layout, box, table)
    return box


def _predict(
    runtime: EmotionRuntime, row: TableRow, columns: RowColumns, box: tuple[str, ...], folder: Path
) -> tuple[TableRow, int, Person | None] | BadRow:
    """Return a row with its label and the person found, or the reason why it cannot be used."""
    try:
        label = _label(cell_text(row, columns.label), runtime.labels)
        return row, label, _person(runtime.look(_image(folder, row, columns)), row_box(row, box))
    except BadRow as bad:
        return bad


def _label(text: str, names: tuple[str, ...]) -> int:
    """Return the position of an emotion among the labels of the head."""
    if text in names:
        return names.index(text)
    if names == EKMAN:
        try:
            return ekman_index(text.lower())
        except EmotionError:
            pass
    raise BadRow("label is not one of the head" if text else "no label", text)


def _image(folder: Path, row: TableRow, columns: RowColumns) -> NDArray[np.uint8]:
    """Return the image of a row, (H, W, 3) uint8 BGR."""
    name = cell_text(row, columns.path)
    if not name:
        raise BadRow("no path")
    path = existing_path(folder, name)
    if not path.is_file():
        raise BadRow("no file at the path", path)
    text = cell_text(row, columns.time)
    seconds = numbers([text], "time")[0] if text else None
    try:
        rgb = load_image(SampleImage(path, (), seconds))
    except EmotionError as error:
        raise BadRow("unreadable image or video", path) from error
    return np.ascontiguousarray(rgb[..., ::-1])


def _person(people: list[Person], box: Box | None) -> Person | None:
    """Return the person in a box, or without a box the largest one."""
    encoded = [person for person in people if person.raw]
    if box is not None:
        encoded = [person for person in encoded if _part_inside(person.box, box) >= _INSIDE]
    return max(encoded, key=lambda person: _area(person.box), default=None)


def _part_inside(head: Box, box: Box) -> float:
    """Return which fraction of the smaller one of two boxes lies in the other."""
    width = max(min(head[2], box[2]) - max(head[0], box[0]), 0.0)
    height = max(min(head[3], box[3]) - max(head[1], box[1]), 0.0)
    return width * height / max(min(_area(head), _area(box)), 1e-9)


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _probabilities(person: Person | None, names: tuple[str, ...]) -> list[float]:
    if person is None:
        return [float("nan")] * len(names)
    return [person.raw[name] for name in names]
