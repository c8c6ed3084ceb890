"""Files that begin anew at a size or at midnight; the earlier parts keep their lines under other names."""

import logging
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path
from threading import Event

import msgspec

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks.byte_output import ByteOutput, lock
from emotion_runtime.types import RunLine

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_LEAST = 10_000  # bytes; a line about a crowd has several thousand
_NUMBER = r"\d{4}|[1-9]\d{4,}"  # in the name of a part by size
_DAY = r"\d{4}-\d\d-\d\d(?:-\d+)?"  # in that of a part by day
_LONGEST = 1 << 20  # bytes of a line about a run; other files may have no lines


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file begins anew.

    Attributes:
        size: Bytes that a file has at most, unless a single line is longer. None: it begins anew with each
            day, in UTC.
        keep: So many earlier parts are kept, the newest ones of the same kind, by size or by day. None: all.
    """

    size: int | None = None
    keep: int | None = None


def parse_rotation(text: str, keep: int | None = None) -> Rotation:
    """Return the rotation that the options ask for.

    Args:
        text: `daily`, or a size such as 100MB; kB, MB and GB are powers of 1000.
        keep: See `Rotation`.

    Raises:
        EmotionError: The text is neither, the size is too small, or nothing would be kept.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", text.strip().lower())
    if text != "daily" and match is None:
        raise EmotionError(f"--rotate {text}: expected `daily`, or a size such as 100MB")
    if keep is not None and keep < 1:
        raise EmotionError(f"--rotate-keep {keep}: expected 1 or more; omit it to keep all files")
    if match is None:
        return Rotation(None, keep)
    size = int(float(match[1]) * _UNITS[match[2]])
    if size < _LEAST:
        raise EmotionError(f"--rotate {text}: expected {_LEAST // 1000}kB or more, or `daily`")
    return Rotation(size, keep)


def _today() -> date:
    return datetime.now(timezone.utc).date()


class RotatingOutput:
    """A file of lines, which a rotation renames and begins anew between two lines.

    With a rotation `events.jsonl` is always the file that is written. By size, the earlier ones are called
    `events-0001.jsonl`, `events-0002.jsonl` and so on; by day, `events-2026-11-27.jsonl`, with the day on
    which they were written.

    Args:
        path: The file, or "-" for standard output, which never begins anew.
        what: The file, for messages.
        rotation: When it begins anew. None: never.
        append: Whether to keep what the file contains.
        starts: See `ByteOutput`.
        stopped: See `ByteOutput`.

    Attributes:
        first_line: Is written at the beginning of each file after the first.
        parts: The files that were renamed.

    Raises:
        EmotionError: It is not a regular file, which a rotation needs, or see `ByteOutput`.
    """

    def __init__(
        self,
        path: str,
        what: str,
        rotation: Rotation | None,
        *,
        append: bool = False,
        starts: Sequence[bytes] = (),
        stopped: Event | None = None,
    ) -> None:
        self._what, self._stopped = what, stopped
        self._rotation = None if path == "-" else rotation
        # Renaming a link to the file on another disk would leave all later lines on this one.
        self._path = Path(path if self._rotation is None else os.path.realpath(path))
        self._day, self._size = _today(), 0
        if self._rotation is not None and self._path.exists():
            if not self._path.is_file():
                raise EmotionError(f"{what} is not a regular file, which --rotate needs; omit --rotate")
            if append:  # perhaps of a run that ended yesterday
                self._day = datetime.fromtimestamp(self._path.stat().st_mtime, timezone.utc).date()
        self._output = ByteOutput(path, what, append=append, starts=starts, stopped=stopped)
        if self._rotation is not None:
            self._size = self._path.stat().st_size
        self.first_line = b""
        self.parts: list[Path] = []

    def write(self, line: bytes) -> bool:
        """Write a line, into a new file if it is time for one. See `ByteOutput.write`."""
        if self._rotation is not None and self._is_due(self._rotation, len(line)):
            self._begin_anew(self._rotation)
        self._size += len(line)
        return self._output.write(line)

    def close(self) -> None:
        """Close the file, see `ByteOutput.close`."""
        self._output.close()

    def reader_left(self) -> bool:
        """Return whether nobody reads a pipe any more, see `ByteOutput.reader_left`."""
        return self._output.reader_left()

    def _is_due(self, rotation: Rotation, more: int) -> bool:
        if rotation.size is None:
            return _today() != self._day and self._size > 0
        return self._size + more > rotation.size and self._size > len(self.first_line)

    def _begin_anew(self, rotation: Rotation) -> None:
        part = self._free_name(by_day=rotation.size is None)
        self._day, self._size = _today(), 0
        try:
            self._path.rename(part)  # while it is locked: no other run may take it in between
        except OSError as error:
            logging.getLogger(__name__).warning(
                "%s cannot be renamed to %s (%s), so it goes on; allow writing to the folder",
                self._what,
                part.name,
                error.strerror,
            )
            return
        self._output.close()
        self.parts.append(part)
        self._output = ByteOutput(str(self._path), self._what, append=True, stopped=self._stopped)
        if self.first_line:
            self._output.write(self.first_line)
            self._size = len(self.first_line)
        if rotation.keep is not None:
            for path in self._earlier_parts(by_day=rotation.size is None)[: -rotation.keep]:
                with suppress(OSError):  # another program may have taken it
                    path.unlink()
                self.parts = [part for part in self.parts if part != path]

    def _free_name(self, *, by_day: bool) -> Path:
        """Return the name of the next part, which no file has."""
        if by_day:
            plain = again = self._path.with_stem(f"{self._path.stem}-{self._day.isoformat()}")
            number = 1
            while again.exists():  # the clock was set back, or another rotation was asked for
                number += 1
                again = plain.with_stem(f"{plain.stem}-{number}")
            return again
        numbers = [int(each.stem.rpartition("-")[2]) for each in self._earlier_parts(by_day=False)]
        number = max(numbers, default=0) + 1
        stem = self._path.stem
        while (part := self._path.with_stem(f"{stem}-{number:04d}")).exists():  # a file of somebody else
            number += 1
        return part

    def _earlier_parts(self, *, by_day: bool) -> list[Path]:
        """Return the parts that exist, of this run and of earlier ones, oldest first.

        A name alone does not make a file a part: notes may be called `events-2026.jsonl`, and another camera
        `events-1001`.
        """
        name = re.escape(f"{self._path.stem}-") + f"(?:{_DAY if by_day else _NUMBER})"
        pattern = re.compile(name + re.escape(self._path.suffix))
        found = []
        for each in self._path.parent.iterdir():
            if pattern.fullmatch(each.name):
                with suppress(OSError):  # unreadable, or gone since
                    if each in self.parts or _is_of_a_finished_run(each):
                        found.append((each.stat().st_mtime_ns, len(each.name), each))
        return [path for *_, path in sorted(found)]


def _is_of_a_finished_run(path: Path) -> bool:
    """Return whether a file begins with the line about a run, and no program is writing into it."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        try:
            msgspec.json.decode(file.readline(_LONGEST).removeprefix(b"# "), type=RunLine)
            lock(file, str(path))
        except (msgspec.DecodeError, UnicodeDecodeError, EmotionError):
            return False
    return True
