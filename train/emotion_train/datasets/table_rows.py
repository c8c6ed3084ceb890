"""Cells of a table as programs write them, and checks of all of its rows."""

import logging
import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import PureWindowsPath
from typing import Any

from emotion_runtime.errors import EmotionError
from emotion_runtime.types import Box
from emotion_train.datasets.layout import Layout
from emotion_train.datasets.rows import BadRow, numbers

_SIZES = {("w", "h"), ("width", "height")}  # last two columns of a box that are its size, not a corner
_ALLOWED_REVERSED = 0.1  # fraction of boxes without area in a table that has corners and a few mistakes

_log = logging.getLogger(__name__)

TableRow = dict[str, Any]


def cell_value(row: TableRow, column: str) -> Any:
    """Return a cell, or None if it is empty; in a column of numbers empty cells are NaN."""
    cell = row.get(column)
    return None if isinstance(cell, float) and math.isnan(cell) else cell


def cell_text(row: TableRow, column: str) -> str:
    """Return a cell as text without surrounding whitespace, "" if it is empty."""
    cell = cell_value(row, column)
    return "" if cell is None else str(cell).strip()


def row_box(row: TableRow, columns: Sequence[str]) -> Box | None:
    """Return the row's box as the table has it, as corners."""
    cells = [cell_value(row, name) for name in columns]
    if all(cell is None for cell in cells):
        return None
    if len(cells) == 1:
        # "1, 2, 3, 4", "1 2 3 4", "[1, 2, 3, 4]", or a list in a Parquet file
        cells = cells[0] if isinstance(cells[0], list) else re.findall(r"[^\s,;\[\]()]+", str(cells[0]))
    if len(cells) != 4:
        raise BadRow("box does not have four numbers")
    x1, y1, x2, y2 = numbers(cells, "box")
    return (x1, y1, x1 + x2, y1 + y2) if tuple(columns[2:]) in _SIZES else (x1, y1, x2, y2)


def check_splits(
    layout: Layout, rows: Sequence[TableRow], split: tuple[str, str], row_columns: Sequence[str], group: str
) -> None:
    """Refuse rows that are in two splits, and warn of groups that are.

    Args:
        layout: Of the table.
        rows: All rows.
        split: The column of splits, and the split that is read.
        row_columns: The columns that say what a row shows, first the path.
        group: The column of groups; without a value, the path is the group.

    Raises:
        EmotionError: A row of the split, with its times and box, is in another split, too.
    """
    column, name = split
    seen: dict[bool, set[tuple[str, ...]]] = {True: set(), False: set()}  # by whether it is of the split
    groups: dict[bool, set[str]] = {True: set(), False: set()}
    for row in rows:
        path, *rest = (cell_text(row, each) for each in row_columns)
        if not path:  # left out and counted when it is read
            continue
        here = cell_text(row, column) == name
        shown = (PureWindowsPath(path).as_posix(), *rest)  # "./a.jpg" and "a.jpg" are one file
        seen[here].add(shown)
        groups[here].add(cell_text(row, group) or shown[0])
    if shared := sorted(seen[True] & seen[False]):
        raise EmotionError(
            f"table {layout.root}: {len(shared)} rows of split {name} are in another split, too, for example "
            f"{shared[0][0]}, so that results say nothing about new data: keep each row in one split"
        )
    if name != "train" and (shared_groups := sorted(groups[True] & groups[False])):
        _log.warning(
            "table: %d of %d groups of split %s are in another split, too, for example %s: metrics on them "
            "are optimistic",
            len(shared_groups),
            len(groups[True]),
            name,
            shared_groups[0],
        )


def warn_of_spellings(names: Iterable[str]) -> None:
    """Warn of class names that differ in upper and lower case only: each is a class of its own."""
    spellings: dict[str, list[str]] = {}
    for name in sorted(names):
        spellings.setdefault(name.casefold(), []).append(name)
    if several := [" and ".join(each) for each in spellings.values() if len(each) > 1]:
        _log.warning("table: labels that differ in case only are different classes: %s", ", ".join(several))


def check_boxes(layout: Layout, columns: Sequence[str], rows: Sequence[TableRow]) -> None:
    """Refuse boxes that are not corners in pixels, which would be somewhere else in the image.

    Raises:
        EmotionError: All boxes are within 0 to 1, or many have their second corner before the first.
    """
    boxes: list[Box] = []
    for row in rows:
        with suppress(BadRow):
            box = row_box(row, columns)
            boxes += [] if box is None else [box]
    if not boxes:
        return
    name = ", ".join(columns)
    if all(0 <= value <= 1 for box in boxes for value in box):
        raise layout.broken(
            layout.root, f"all boxes ({name}) are within 0 to 1: multiply by width and height to get pixels"
        )
    reversed_boxes = sum(x2 < x1 or y2 < y1 for x1, y1, x2, y2 in boxes)
    if reversed_boxes > _ALLOWED_REVERSED * len(boxes):
        raise layout.broken(
            layout.root,
            f"{reversed_boxes} of {len(boxes)} boxes ({name}) end before they begin: give the corners "
            "x1 y1 x2 y2; width and height are read from columns x, y, w, h",
        )
