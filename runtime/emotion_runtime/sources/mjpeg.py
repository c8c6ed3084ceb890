"""The parts of a Motion JPEG stream."""

import time
from collections.abc import Iterator
from typing import Protocol

from emotion_runtime.errors import ConnectionLost

MOST_BYTES = 64 * 2**20  # of one image
_LINE = 8192  # bytes of a line of a header
_LINES = 64  # of a header
_AROUND = b" \t\r\n\"'"  # what cameras put around a boundary, in the header or in the stream


class Reader(Protocol):
    """What the parts are read from."""

    def read(self, count: int) -> bytes:
        """Return so many bytes; fewer only at the end."""

    def line(self, most: int) -> bytes:
        """Return the bytes up to and with the next line feed, at most so many; none at the end."""


def parts(reader: Reader, boundary: bytes) -> Iterator[tuple[bytes, float]]:
    """Yield the content of each part, and when it began to arrive, until the end of the stream.

    Args:
        reader: The body of the answer.
        boundary: What separates the parts, from the content type; b"" if it has none. Cameras add dashes,
            quotes and spaces as they like, and some separate the parts by something else than they say.

    Raises:
        ConnectionLost: It is not a stream of parts.
    """
    mark = _first_mark(reader, boundary.strip(_AROUND + b"-"))
    if mark is None:
        return
    while True:
        length = _length(reader)
        if length is None:
            data, arrival = _until(reader, mark)
            if data is None:
                return
            yield data, arrival
        else:
            data = reader.read(min(length, 1))
            arrival = time.monotonic()
            data += reader.read(max(0, length - 1))
            if len(data) < length:
                return
            yield data, arrival
            if not _skip_to(reader, mark):
                return


def _first_mark(reader: Reader, stated: bytes) -> bytes | None:
    """Return how the lines that separate the parts begin: as stated, or else as the first of them does."""
    for _ in range(_LINES):
        line = reader.line(_LINE)
        if not line:
            return None
        text = line.strip(_AROUND)
        name = text.strip(_AROUND + b"-")
        if text.startswith(b"--") and name:
            return b"--" + (stated if stated and name.startswith(stated) else name)
        if stated and text == stated:
            return stated
    raise _broken()


def _is_mark(line: bytes, mark: bytes) -> bool:
    text = line.strip(_AROUND)
    if not mark.startswith(b"--"):
        return text == mark
    return text.startswith(b"--") and text.lstrip(_AROUND + b"-").startswith(mark[2:])


def _skip_to(reader: Reader, mark: bytes) -> bool:
    for _ in range(_LINES):
        line = reader.line(_LINE)
        if not line:
            return False
        if _is_mark(line, mark):
            return True
    raise _broken()


def _length(reader: Reader) -> int | None:
    """Read the header of a part; return the length that it states."""
    length = None
    for _ in range(_LINES):
        line = reader.line(_LINE)
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            length = int(value)
            if length > MOST_BYTES:
                raise _broken()
        if not line.strip():
            return length
    raise _broken()


def _until(reader: Reader, mark: bytes) -> tuple[bytes | None, float]:
    """Return the bytes before the next mark, and when the first arrived; no bytes if there is no mark."""
    lines: list[bytes] = []
    size, arrival = 0, 0.0
    while line := reader.line(_LINE):
        arrival = arrival or time.monotonic()
        if _is_mark(line, mark):
            return b"".join(lines).removesuffix(b"\n").removesuffix(b"\r"), arrival
        lines.append(line)
        size += len(line)
        if size > MOST_BYTES:
            raise _broken()
    return None, arrival


def _broken() -> ConnectionLost:
    return ConnectionLost("it does not send Motion JPEG as its header says; check the camera", "format")
