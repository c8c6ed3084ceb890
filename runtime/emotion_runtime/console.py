"""What all command lines share: errors in one line, exit statuses, messages on the terminal."""

import argparse
import logging
import sys
from collections.abc import Callable
from typing import NoReturn

from emotion_runtime.errors import EmotionError

# Of every package of this project; libraries keep their own loggers.
LOGGERS = ("emotion_runtime", "emotion_train", "emotion_export", "emotion_bench")


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line; argparse prints its usage before it."""

    def error(self, message: str) -> NoReturn:
        """Raise the message as an `EmotionError`."""
        raise EmotionError(f"{message}; see {self.prog} --help")


def run(program: str, command: Callable[[], int | None], *, interrupted: int = 130) -> int:
    """Run a command and return its exit status.

    0: done. 2: a user's mistake, printed in one line. A bug keeps its traceback.

    Args:
        program: Name of the program, printed before an error.
        command: Returns its exit status; None means 0.
        interrupted: Exit status after Ctrl-C.
    """
    try:
        return command() or 0
    except EmotionError as error:
        sys.stderr.write(f"{program}: error: {error}\n")
        return 2
    except KeyboardInterrupt:
        return interrupted


def print_messages(program: str, level: int = logging.INFO) -> None:
    """Print log messages of this project from `level` on to standard error, as "PROGRAM: message".

    Warnings and errors show their level. Calling it again replaces the program's name and the level.
    """
    handler = _Terminal(program)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)


class _Terminal(logging.Handler):
    """Writes to the standard error of the moment, which tests and progress bars replace."""

    def __init__(self, program: str) -> None:
        super().__init__()
        self._program = program

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname}: "
        sys.stderr.write(f"{self._program}: {level}{self.format(record)}\n")
