"""Files of bytes that FFmpeg reads once, from the beginning to the end: pipes, and files that still grow."""

import os
import select
import sys
import time
from pathlib import Path
from threading import Event

_PATIENCE = 0.2  # seconds between two looks at `stop` while there is no data
_START = 1 << 16  # bytes


class Pipe:
    """Standard input or a named pipe, read without blocking for longer than it takes to obey `stop`.

    Args:
        path: The pipe; "-" is standard input.
        stop: Ends the data.

    Attributes:
        start: The first 64 kB that were read, which can be read only once.
    """

    def __init__(self, path: str, stop: Event) -> None:
        self._stop = stop
        self.start = b""
        # A named pipe without a writer would block in open, where no signal is obeyed.
        self._descriptor = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | _NONBLOCK)

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end."""
        while not self._stop.is_set():
            if sys.platform != "win32" and not select.select([self._descriptor], [], [], _PATIENCE)[0]:
                continue
            try:
                data = os.read(self._descriptor, size)
            except BlockingIOError:  # another reader was faster
                continue
            self.start += data[: _START - len(self.start)]
            return data
        return b""

    def close(self) -> None:
        """Release the pipe; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class GrowingFile:
    """A file that another program still writes: at its end, `read` waits for more.

    The data ends when `stop` is set, and when the file is deleted or becomes shorter, as by a log rotation.

    Args:
        path: The file.
        stop: Ends the data.
    """

    def __init__(self, path: str, stop: Event) -> None:
        self._stop = stop
        self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed by `close`

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; none at the end."""
        while not self._stop.is_set():
            data = self._file.read(size)
            if data:
                return data
            status = os.fstat(self._file.fileno())
            if status.st_nlink == 0 or status.st_size < self._file.tell():
                break
            time.sleep(_PATIENCE)
        return b""

    def close(self) -> None:
        """Release the file; safe to call twice."""
        self._file.close()


_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # Windows has no named pipes among its files
