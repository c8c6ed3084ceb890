"""Annotation files on disk; what is missing or broken is said in one line with the tree that was expected."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a data set lies. tree: what is expected there, in one line, for messages."""

    name: str
    root: Path
    tree: str

    def check_split(self, split: str, splits: tuple[str, ...]) -> None:
        """Raise `EmotionError` when the data set has no such split."""
        if split not in splits:
            raise EmotionError(f"{self.name} has no split {split!r}: expected {' or '.join(splits)}")

    def file(self, *parts: str) -> Path:
        """A file that has to be there.

        Raises:
            EmotionError: it is not.

        """
        path = self.root.joinpath(*parts)
        if not path.is_file():
            raise EmotionError(f"{self.name}: no file {path}; expected {self.tree}")
        return path

    def broken(self, path: Path, reason: str) -> EmotionError:
        """A file that is not what it should be, as an error to raise."""
        return EmotionError(f"{self.name}: {path}: {reason}; expected {self.tree}")

    def cells(self, path: Path, delimiter: str = ",") -> list[list[str]]:
        """The rows of a text table, blank lines left out.

        Raises:
            EmotionError: it is no text, or no table.

        """
        try:
            with path.open(encoding="utf-8-sig", newline="") as lines:
                return [row for row in csv.reader(lines, delimiter=delimiter) if row]
        except (UnicodeDecodeError, csv.Error) as error:
            raise self.broken(path, f"not a table of text ({error})") from error

    def records(self, path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
        """The rows of a CSV file by the names in its first line; cells that a short row lacks are empty.

        Raises:
            EmotionError: it is no CSV file, or lacks one of the columns.

        """
        header, *rows = self.cells(path) or [[]]
        missing = [column for column in columns if column not in header]
        if missing:
            raise self.broken(path, f"no column {', '.join(missing)}")
        width = len(header)
        return [dict(zip(header, (row + [""] * width)[:width], strict=True)) for row in rows]

    def words(self, path: Path) -> list[list[str]]:
        """The lines of a text file, split at blanks.

        Raises:
            EmotionError: it is no text.

        """
        try:
            return [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise self.broken(path, f"not text ({error})") from error

    def json(self, path: Path, kind: Any) -> Any:
        """A JSON file, checked against the type it should have.

        Raises:
            EmotionError: it is no JSON, or of another type.

        """
        return self.decoded(path, path.read_bytes(), kind)

    def decoded(self, path: Path, text: bytes | msgspec.Raw, kind: Any) -> Any:
        """JSON text out of `path`, checked against the type it should have.

        Raises:
            EmotionError: it is no JSON, or of another type.

        """
        try:
            return msgspec.json.decode(text, type=kind)
        except msgspec.MsgspecError as error:
            raise self.broken(path, str(error)) from error

    def array(self, path: Path, columns: int) -> NDArray[Any]:
        """A NumPy file of numbers, (N, columns).

        Raises:
            EmotionError: it is no NumPy file, or of another shape.

        """
        try:
            array: NDArray[Any] = np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise self.broken(path, f"not an array of numbers ({error})") from error
        if array.ndim != 2 or array.shape[1] != columns or array.dtype.kind not in "fiub":
            raise self.broken(
                path, f"array {array.shape} of {array.dtype}, expected numbers of shape (N, {columns})"
            )
        return array
