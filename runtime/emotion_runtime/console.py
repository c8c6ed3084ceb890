"""Shared by all command lines: errors in one line, exit statuses, messages on the terminal."""

import argparse
import io
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from emotion_runtime import __version__
from emotion_runtime.errors import EmotionError

# One per package of this project; the loggers of libraries are left alone.
LOGGERS = ("emotion_runtime", "emotion_train", "emotion_export", "emotion_bench")


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line, without argparse's usage text before it.

    Attributes:
        other_names: Options under names that other programs give them, by that name, with two dashes.
        file_option: Option that was probably meant when a file is given without one.
    """

    other_names: Mapping[str, str] = {}
    file_option: str | None = None

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the options. An argument that does not exist raises an error with a suggestion."""
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            suggestion = self._suggestion(unknown[0])
            hint = f": did you mean {suggestion}?" if suggestion else ""
            self.error(f"unrecognized arguments: {shlex.join(unknown)}{hint}")
        return known

    def _suggestion(self, argument: str) -> str | None:
        """Return what was probably meant by an argument that does not exist."""
        name, _, value = argument.partition("=")
        if not name.startswith("-"):
            return f"{self.file_option} {shlex.quote(argument)}" if self.file_option else None
        if name in self.other_names:
            return self.other_names[name]
        options = [option for option in self._option_string_actions if option.startswith("--")]
        close = get_close_matches(name, options, 1, cutoff=0.7)
        return f"{close[0]}{'=' * bool(value)}{value}" if close else None

    def error(self, message: str) -> NoReturn:
        """Raise the message as an `EmotionError`, without the names of Python's types."""
        for kind, expected in (("int", "a whole number"), ("float", "a number")):
            message = message.replace(f"invalid {kind} value: ", f"expected {expected}, not ")
        if message.endswith("expected one argument"):
            option = message.removeprefix("argument ").partition(":")[0]
            message += f"; write {option}=VALUE for a value that begins with a dash"
        raise EmotionError(f"{message}; see {self.prog} --help")


def run(program: str, command: Callable[[], int | None], *, interrupted: int = 130) -> int:
    """Run a command and return its exit status.

    A user's mistake is printed in one line. A bug keeps its traceback.

    Args:
        program: Name of the program, printed before an error.
        command: Returns its exit status; None means 0.
        interrupted: Exit status after Ctrl-C.

    Returns:
        0 if the command is done, 2 after a user's mistake.
    """
    with _lenient_messages():
        try:
            return command() or 0
        except EmotionError as error:
            for line in str(error).splitlines():  # one for each mistake
                sys.stderr.write(f"{program}: error: {line}\n")
            return 2
        except KeyboardInterrupt:
            return interrupted


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
def _lenient_messages() -> Iterator[None]:
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


def write_output(text: str) -> None:
    """Write the result of a command to standard output. That the reader of a pipe is gone is no error.

    Raises:
        EmotionError: Standard output cannot be written.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # Otherwise the interpreter would write the rest again at exit, and print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise EmotionError(
                f"standard output cannot be written ({error.strerror}); free disk space, or redirect it "
                "to another file"
            ) from error


@dataclass(frozen=True, slots=True)
class CommandGroup:
    """A program with several commands, such as `emotion-train pretrain`.

    A command is a module with a function `main(argv) -> int`. It is imported only when it is called, so that
    `--help` is fast, and a package that is not installed is reported by name.

    Attributes:
        program: Name of the program.
        description: What the program is for, in one sentence.
        package: Package of the modules; the command `fit-probe` is its module `fit_probe`.
        commands: What each command does, by its name.
        extra: Extra of this project that the commands may need.
        extra_packages: The packages that the extra installs, by the name under which each is imported.
    """

    program: str
    description: str
    package: str
    commands: Mapping[str, str]
    extra: str
    extra_packages: Mapping[str, str]

    def parser(self) -> argparse.ArgumentParser:
        """Return the parser of the command line up to the command's name."""
        parser = OneLineParser(
            prog=self.program,
            description=self.description,
            epilog="\n".join(["commands:", *(f"  {name:<14}{what}" for name, what in self.commands.items())]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument(
            "command", choices=self.commands, metavar="COMMAND", help="one of the commands below"
        )
        parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
        return parser

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run a command and return its exit status; see `run`.

        Args:
            argv: The arguments without the program's name. None: those of the process.
        """
        arguments = list(sys.argv[1:] if argv is None else argv)
        names = [name for name in arguments[:1] if name in self.commands]
        program = " ".join([self.program, *names])
        print_messages(program)
        return run(program, lambda: self._run(arguments))

    def _run(self, arguments: list[str]) -> int:
        """Import a command and run it.

        Raises:
            EmotionError: There is no such command, a package of the extra is not installed, or the command
                raised it.
        """
        command: str = self.parser().parse_args(arguments[:1]).command
        try:
            module = import_module(f"{self.package}.{command.replace('-', '_')}")
            status: int = module.main(arguments[1:])
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in self.extra_packages:
                raise
            raise EmotionError(
                f"the package {self.extra_packages[missing]} is not installed; it comes with the extra "
                f"`{self.extra}`: run pip install '.[{self.extra}]' in a checkout"
            ) from error
        return status


class _ClosedOutput(io.TextIOBase):
    """Stands for a standard output that was closed before the program began (`>&-`)."""

    @property
    def buffer(self) -> NoReturn:
        """Refuse to give the bytes below, as `write` does."""
        self.write("")

    def write(self, text: str) -> NoReturn:  # noqa: ARG002 - part of the interface
        """Refuse to write.

        Raises:
            EmotionError: Always: the output would be lost.
        """
        raise EmotionError("standard output is closed; send it to a file, or to /dev/null")


def open_standard_streams() -> None:
    """Make sure that a program has its three standard streams, whoever started it.

    Otherwise the next file that is opened would get the number of a closed one, and collect what libraries
    print. Nothing is printed to a closed standard error; writing to a closed standard output is an error.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open until the end
    if sys.stdout is None:
        sys.stdout = _ClosedOutput()


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
