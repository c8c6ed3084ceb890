"""Files that begin anew at a size or at midnight; the earlier parts keep their lines under other names."""

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path
from threading import Event

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks.byte_output import ByteOutput

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_LEAST = 10_000  # bytes; a line about a crowd has several thousand


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file begins anew.

    Attributes:
        size: Bytes that a file has at most, unless a single line is longer. None: it begins anew with each
            day, in UTC.
        keep: So many earlier parts are kept, the newest ones. None: all.
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
        self._path, self._what, self._stopped = Path(path), what, stopped
        self._rotation = None if path == "-" else rotation
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
        part = _free_name(self._path, None if rotation.size is not None else self._day)
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
            self._forget_old_parts(rotation.keep)

    def _forget_old_parts(self, keep: int) -> None:
        found = sorted(parts_of(self._path), key=lambda path: (path.stat().st_mtime_ns, len(path.name), path))
        for path in found[:-keep]:
            with suppress(OSError):  # another program may have taken it
                path.unlink()
            self.parts = [part for part in self.parts if part != path]


def parts_of(path: Path) -> list[Path]:
    """Return the existing earlier parts of a file that is rotated."""
    pattern = re.compile(re.escape(path.stem) + r"-(\d{4,}|\d{4}-\d\d-\d\d(-\d+)?)" + re.escape(path.suffix))
    return [each for each in path.parent.iterdir() if pattern.fullmatch(each.name)]


def _free_name(path: Path, day: date | None) -> Path:
    """Return a name that no file has."""
    if day is not None:
        plain = path.with_stem(f"{path.stem}-{day.isoformat()}")
        again, number = plain, 1
        while again.exists():  # the clock was set back, or another rotation was asked for
            number += 1
            again = plain.with_stem(f"{plain.stem}-{number}")
        return again
    numbers = [
        int(match[1])
        for each in parts_of(path)
        if (match := re.fullmatch(re.escape(path.stem) + r"-(\d{4,})", each.stem))
    ]
    return path.with_stem(f"{path.stem}-{max(numbers, default=0) + 1:04d}")
