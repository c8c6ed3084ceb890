"""Read annotation files; errors name the file, the problem and the expected layout in one line."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a data set.

    Attributes:
        name: Name of the data set.
        root: Its folder.
        tree: The expected layout in one line, for error messages.
    """

    name: str
    root: Path
    tree: str

    def check_split(self, split: str, splits: tuple[str, ...]) -> None:
        """Raise `EmotionError` if the data set does not have the split."""
        if split not in splits:
            raise EmotionError(f"{self.name} has no split {split!r}: expected {' or '.join(splits)}")

    def file(self, *parts: str) -> Path:
        """Return the path of a file.

        Raises:
            EmotionError: The file does not exist.
        """
        path = self.root.joinpath(*parts)
        if not path.is_file():
            raise EmotionError(f"{self.name}: file {path} is missing; expected {self.tree}")
        return path

    def broken(self, path: Path, reason: str) -> EmotionError:
        """Return an error about a file with unexpected content."""
        return EmotionError(f"{self.name}: {path}: {reason}; expected {self.tree}")

    def cells(self, path: Path, delimiter: str = ",") -> list[list[str]]:
        """Read the rows of a text table, without blank lines.

        Raises:
            EmotionError: The file is not a text table.
        """
        try:
            with path.open(encoding="utf-8-sig", newline="") as lines:
                return [row for row in csv.reader(lines, delimiter=delimiter) if row]
        except UnicodeDecodeError as error:
            raise self.broken(
                path, f"not a table of text in UTF-8 ({error}): save it as CSV UTF-8"
            ) from error
        except csv.Error as error:
            raise self.broken(path, f"not a table of text ({error})") from error

    def records(self, path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
        """Read the rows of a CSV file by the column names in its first line; missing cells are empty.

        Raises:
            EmotionError: The file is not a CSV file, lacks one of the columns, or has two of one name.
        """
        header, *rows = self.cells(path) or [[]]
        for separator, name in ((";", "semicolons"), ("\t", "tabs")):
            if len(header) == 1 and separator in header[0]:
                raise self.broken(path, f"its columns are separated by {name}: save it with commas")
        missing = [column for column in columns if column not in header]
        if missing:
            raise self.broken(path, f"no column {', '.join(missing)}")
        self.check_names(path, header)
        width = len(header)
        return [dict(zip(header, (row + [""] * width)[:width], strict=True)) for row in rows]

    def check_names(self, path: Path, columns: Sequence[str]) -> None:
        """Refuse two columns of one name, of which only the last would be read.

        Raises:
            EmotionError: There are two; columns without a name do not count.
        """
        twice = sorted({name for name in columns if name and list(columns).count(name) > 1})
        if twice:
            raise self.broken(path, f"two columns are called {', '.join(twice)}: rename one of each")

    def words(self, path: Path) -> list[list[str]]:
        """Read the lines of a text file, each split at whitespace.

        Raises:
            EmotionError: The file is not text.
        """
        try:
            return [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise self.broken(path, f"not text in UTF-8 ({error})") from error

    def json(self, path: Path, kind: Any) -> Any:
        """Read a JSON file and check its type.

        Raises:
            EmotionError: The file is not JSON, or has another type.
        """
        return self.decoded(path, path.read_bytes(), kind)

    def decoded(self, path: Path, text: bytes | msgspec.Raw, kind: Any) -> Any:
        """Decode JSON text from the file `path` and check its type.

        Raises:
            EmotionError: The text is not JSON, or has another type.
        """
        try:
            return msgspec.json.decode(text, type=kind)
        except msgspec.MsgspecError as error:
            raise self.broken(path, str(error)) from error

    def array(self, path: Path, columns: int) -> NDArray[Any]:
        """Read a NumPy file of numbers (N, columns).

        Raises:
            EmotionError: The file is not a NumPy file, or has another shape.
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
