"""Open files, pipes and standard output for writing: locked, never blocking for ever, never corrupted."""

import errno
import json
import logging
import os
import select
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import BinaryIO

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import make_folder

_CHUNK = 4096  # bytes that a pipe takes without blocking once `poll` calls it writable (PIPE_BUF of Linux)
_BLOCK = 65536  # bytes; of which the last line of a file is looked for at a time
_POLL = 0.1  # seconds between two looks at a stop request
_NO_READER = 30.0  # seconds to wait for a program that reads a named pipe
_GRACE = 0.5  # seconds, after a stop request, for a slow reader to take the rest of a line
_FAR = 2**40  # bytes; where the lock of a file is on Windows, out of the way of its data


def lock(file: BinaryIO, what: str) -> None:
    """Lock a file until it is closed, so that two processes cannot write into it.

    Args:
        file: An open file.
        what: The file, for the message.

    Raises:
        EmotionError: Another process, or this one, is writing into the file.
    """
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - only there

            position = file.tell()
            file.seek(_FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(position)
        else:
            import fcntl  # noqa: PLC0415 - not there on Windows

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise EmotionError(
                f"{what} is being written by another run; stop that run, or give another file name"
            ) from error
        # The file system has no locks, as some network drives.


def deleted(file: BinaryIO | None) -> bool:
    """Return whether an open file has no name any more, so that nobody can read what is written into it.

    On some network file systems no file ever seems to have one.
    """
    return file is None or os.fstat(file.fileno()).st_nlink == 0


def open_locked(path: Path, what: str) -> BinaryIO:
    """Open a file for appending, and lock it. Its content is kept, and its folder is created.

    Args:
        path: The file.
        what: The file, for messages.

    Raises:
        EmotionError: Another run is writing into the file, or its folder cannot be created.
        OSError: The file cannot be opened.
    """
    make_folder(path.parent)
    file = path.open("ab")
    try:
        lock(file, what)
    except BaseException:
        file.close()
        raise
    return file


class ByteOutput:
    """A file, a named pipe, a device or standard output, to which bytes are written and flushed at once.

    Args:
        path: The file, or "-" for standard output.
        what: The stream, for messages.
        append: Whether to keep what a file contains.
        starts: How a file begins to which may be appended, without spaces; empty: in any way.
        stopped: Set from outside when the run should end; waiting for a reader ends then.

    Raises:
        EmotionError: It cannot be opened, nobody reads the named pipe, another run writes into the file, or
            the file to append to holds something else.
    """

    def __init__(
        self,
        path: str,
        what: str,
        *,
        append: bool = False,
        starts: Sequence[bytes] = (),
        stopped: Event | None = None,
    ) -> None:
        self._what = what
        self._starts = starts
        self._stopped = stopped or Event()
        self._is_stdout = path == "-"
        self._file: BinaryIO | None
        try:
            self._file = sys.stdout.buffer if self._is_stdout else self._open(Path(path), append=append)
            mode = 0 if self._file is None else os.fstat(self._file.fileno()).st_mode
            # Of a pipe whose reader has come, the name may go.
            self._has_name = stat.S_ISREG(mode) and not self._is_stdout and not deleted(self._file)
        except OSError as error:
            raise EmotionError(
                f"{what} cannot be written ({error.strerror}); give a file in a folder that you "
                "can write to, or - for standard output"
            ) from error
        self._is_pipe = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)

    def _open(self, path: Path, *, append: bool) -> BinaryIO | None:
        if path.is_fifo():
            return self._open_fifo(path)
        if path.exists() and not path.is_file():  # a device; a folder raises
            return path.open("wb")
        file = open_locked(path, self._what)
        try:
            if append:
                _check_start(path, self._what, self._starts)
                _complete_last_line(file, path, self._what)
            else:
                file.truncate(0)
        except BaseException:
            file.close()
            raise
        return file

    def _open_fifo(self, path: Path) -> BinaryIO | None:
        """Wait for a reader. Return None if the run was stopped before one came."""
        give_up = time.monotonic() + _NO_READER
        while time.monotonic() < give_up:
            descriptor = _open_if_read(path)
            if descriptor is not None:
                os.set_blocking(descriptor, True)
                return os.fdopen(descriptor, "wb")
            if self._stopped.wait(_POLL):
                return None
        raise EmotionError(
            f"{self._what}: no program has read this named pipe for {_NO_READER:g} s; start the reader first"
        )

    def write(self, data: bytes) -> bool:
        """Write and flush. Return False if the reader is gone, which is a normal end.

        Raises:
            EmotionError: The data cannot be written, for example on a full disk.
        """
        if self._file is None:
            return False
        try:
            if self._is_pipe and hasattr(select, "poll"):
                return self._write_to_pipe(self._file.fileno(), data)
            self._file.write(data)
            self._file.flush()
            if self._has_name and deleted(self._file):
                self._let_go()
                raise EmotionError(
                    f"{self._what}: it was deleted during the run, so results are missing in it; run again"
                )
        except BrokenPipeError:
            self._let_go()
            return False
        except OSError as error:
            self._let_go()
            raise self._failed(error) from error
        return True

    def _write_to_pipe(self, descriptor: int, data: bytes) -> bool:
        """Write without blocking for longer than a moment after a stop request."""
        ready = select.poll()
        ready.register(descriptor, select.POLLOUT)
        give_up = float("inf")
        while data:
            if ready.poll(1000 * _POLL):
                data = data[os.write(descriptor, data[:_CHUNK]) :]
            elif self._stopped.is_set():
                give_up = min(give_up, time.monotonic() + _GRACE)
                if time.monotonic() >= give_up:
                    self._let_go()
                    return False
        return True

    def reader_left(self) -> bool:
        """Return whether nobody reads the pipe any more; False for a file."""
        if self._file is None or not self._is_pipe or not hasattr(select, "poll"):
            return False
        state = select.poll()
        state.register(self._file.fileno(), 0)  # errors are reported in any case
        return bool(state.poll(0))

    def _let_go(self) -> None:
        """Close without writing what is buffered, which would fail again, also when the interpreter ends."""
        file, self._file = self._file, None
        if file is None:
            return
        if self._is_stdout:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, file.fileno())
            os.close(null)
        else:
            with suppress(OSError):
                file.close()

    def close(self) -> None:
        """Close the file; standard output stays open. Safe to call twice.

        Raises:
            EmotionError: The last buffered data cannot be written.
        """
        file, self._file = self._file, None
        if file is None or self._is_stdout:
            return
        try:
            file.close()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> EmotionError:
        return EmotionError(
            f"{self._what}: write failed ({error.strerror}), so results are missing in it; free disk space "
            "and run again"
        )


def _open_if_read(path: Path) -> int | None:
    """Open a named pipe for writing; return None if nobody has it open for reading."""
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise


def _check_start(path: Path, what: str, starts: Sequence[bytes]) -> None:
    """Refuse to append to a file that this program did not write; of its own, even the start may be cut off.

    Raises:
        EmotionError: The file begins in another way.
    """
    with path.open("rb") as before:
        start = before.read(_CHUNK).replace(b" ", b"").lstrip()
    if starts and not any(start.startswith(each) or each.startswith(start) for each in starts):
        raise EmotionError(
            f"{what} holds something else than such results, so nothing is added to it: give another file "
            "name, or --overwrite to replace it"
        )


def _complete_last_line(file: BinaryIO, path: Path, what: str) -> None:
    """Make sure that a file ends with a whole line: an earlier run may have been killed in the middle."""
    with path.open("rb") as before:
        size = start = before.seek(0, os.SEEK_END)
        tail = b""
        while start > 0 and b"\n" not in tail:
            block = min(_BLOCK, start)
            start -= block
            before.seek(start)
            tail = before.read(block) + tail
    last = tail.rpartition(b"\n")[2]
    if not last:
        return
    try:
        whole = last.startswith(b"{") and json.loads(last) is not None
    except ValueError:
        whole = False
    if not whole:  # not JSON; the rows of a table end with a line break, and begin with another character
        file.truncate(size - len(last))
        logging.getLogger(__name__).warning(
            "%s: its last line is incomplete, as after a power failure; these %d bytes were cut off",
            what,
            len(last),
        )
    else:
        file.write(b"\n")
