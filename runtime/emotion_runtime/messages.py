"""Messages on standard error, shared by all command lines: as text or as lines of JSON."""

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import Any

# One per package of this project; the loggers of libraries are left alone.
LOGGERS = ("emotion_runtime", "emotion_train", "emotion_export", "emotion_bench")


class _Lenient:
    """A text stream whose messages are lost, instead of ending the program, when its terminal is closed.

    Attributes:
        json_of: Name of the program whose messages are written as lines of JSON. None: as text.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._line = ""  # that has no end yet
        self.json_of: str | None = None

    def write(self, text: str) -> int:
        if self.json_of is None:
            self._write(text)
            return len(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in filter(str.strip, lines):
            message = line.removeprefix(f"{self.json_of}: ")
            is_error = message.startswith("error: ")
            self.write_json(
                "error" if is_error else "info", message.removeprefix("error: "), None, time.time()
            )
        return len(text)

    def write_json(self, level: str, message: str, source: str | None, seconds: float) -> None:
        """Write one message.

        Args:
            level: debug, info, warning or error.
            message: What happened.
            source: Name of the source that it is about. None: it is about none.
            seconds: When it happened, as `time.time()`.
        """
        values = {"time": _utc(seconds, "milliseconds"), "level": level, "source": source, "message": message}
        self._write(json.dumps(values, ensure_ascii=False) + "\n")

    def isatty(self) -> bool:
        """Return whether somebody looks at the stream, and not a program."""
        return self.json_of is None and bool(self._stream.isatty())

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lenient_messages() -> Iterator[None]:
    """Keep messages from ending a program whose terminal is closed, or whose log is on a full disk."""
    before = sys.stderr
    sys.stderr = lenient = _Lenient(before)
    try:
        yield
    finally:
        lenient.write("" if lenient.json_of is None else "\n")
        sys.stderr = before


def write_json_messages(program: str) -> None:
    """Write what comes on standard error from now on as lines of JSON, until the command of `run` ends.

    A line has the keys `time` (UTC, ISO 8601), `level`, `source` (the name of the source that the message is
    about, or null) and `message`. Only the traceback of a bug, and what libraries print, remain text.

    Args:
        program: Name of the program, which is left out of the messages.
    """
    if isinstance(sys.stderr, _Lenient):
        sys.stderr.json_of = program


def _utc(seconds: float, precision: str) -> str:
    """Return a time as ISO 8601 in UTC."""
    text = datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec=precision)
    return text.replace("+00:00", "Z")


def print_messages(program: str, level: int = logging.INFO, *, times: bool = False) -> None:
    """Print log messages of this project to standard error, as "PROGRAM: message".

    Warnings and errors show their level. Calling it again replaces the program's name and the level.

    Args:
        program: Name of the program.
        level: Messages below this level are not printed.
        times: Whether to print the time of each message, in UTC.
    """
    handler = _Terminal(program, times=times)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)


class _Terminal(logging.Handler):
    """Writes to the current `sys.stderr`, which tests and progress bars replace."""

    def __init__(self, program: str, *, times: bool) -> None:
        super().__init__()
        self._program = program
        self._times = times

    def emit(self, record: logging.LogRecord) -> None:
        stream, message = sys.stderr, self.format(record)
        if isinstance(stream, _Lenient) and stream.json_of is not None:
            source = getattr(record, "source", None)
            stream.write_json(record.levelname.lower(), message, source, record.created)
            return
        level = "" if record.levelno < logging.WARNING else f"{record.levelname}: "
        when = f"{_utc(record.created, 'seconds')} " if self._times else ""
        with suppress(OSError):  # a log on a full disk must not end the run
            stream.write(f"{self._program}: {when}{level}{message}\n")
