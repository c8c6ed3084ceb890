"""Shared by all command lines: errors in one line, exit statuses, several commands of one program."""

import argparse
import errno
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from emotion_runtime import __version__
from emotion_runtime.broken_packages import broken_module, fix_for
from emotion_runtime.credentials import without_passwords
from emotion_runtime.errors import EmotionError
from emotion_runtime.messages import lenient_messages, print_messages


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line, without argparse's usage text before it.

    Attributes:
        other_names: Options under names that other programs give them, by that name, with two dashes.
        file_option: Option that was probably meant when a file is given without one.
    """

    other_names: Mapping[str, str] = {}
    file_option: str | None = None
    _given: Sequence[str] = ()  # the arguments that are parsed

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the options. An argument that does not exist raises an error with a suggestion."""
        self._given = sys.argv[1:] if args is None else args
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
        begun = [option for option in options if option.startswith(name)]
        close = get_close_matches(name, begun or options, 1, cutoff=0 if begun else 0.7)
        return f"{close[0]}{'=' * bool(value)}{value}" if close else None

    def _misspelt(self) -> str:
        """Return a suggestion for the first option that does not exist, to be added to a message."""
        for name in (argument.partition("=")[0] for argument in self._given if argument.startswith("--")):
            exists = any(option.startswith(name) for option in self._option_string_actions)
            if not exists and (suggestion := self._suggestion(name)):
                return f"; did you mean {suggestion} by {name}?"
        return ""

    def error(self, message: str) -> NoReturn:
        """Raise the message as an `EmotionError`, without the names of Python's types."""
        for kind, expected in (("int", "a whole number"), ("float", "a number")):
            message = message.replace(f"invalid {kind} value: ", f"expected {expected}, not ")
        if message.endswith("expected one argument"):
            option = message.removeprefix("argument ").partition(":")[0]
            message += f"; write {option}=VALUE for a value that begins with a dash"
        if "arguments are required" in message:
            message += self._misspelt()
        raise EmotionError(f"{without_passwords(message)}; see {self.prog} --help")


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
    with lenient_messages():
        try:
            return command() or 0
        except EmotionError as error:
            for line in str(error).splitlines():  # one for each mistake
                sys.stderr.write(f"{program}: error: {line}\n")
            return 2
        except (ImportError, AttributeError) as error:
            module = broken_module(error)
            if module is None:  # a bug
                raise
            reason = " ".join(str(error).split())
            sys.stderr.write(
                f"{program}: error: the package {module} cannot be loaded ({reason}): {fix_for(error)}\n"
            )
            return 2
        except OSError as error:
            mistake = _mistake_of(error)
            if mistake is None:
                raise
            sys.stderr.write(f"{program}: error: {mistake}\n")
            return 2
        except KeyboardInterrupt:
            return interrupted


def _mistake_of(error: OSError) -> str | None:
    """Return what the user can do about an error that most functions for paths raise; None: it is a bug."""
    if error.errno == errno.ENAMETOOLONG:  # which `Path.is_file` raises, too
        name = f"{without_passwords(str(error.filename))[:60]}..."
        return f"{name}: the name is too long; give the path of a file"
    try:
        Path.cwd()
    except FileNotFoundError:  # without a name, so that it says nothing to the user
        return "the current folder does not exist any more; change to another one with cd"
    return None


def write_output(text: str) -> None:
    """Write the result of a command to standard output. That the reader of a pipe is gone is no error.

    Raises:
        EmotionError: Standard output cannot be written.
    """
    write = sys.stdout.write_result if isinstance(sys.stdout, _ResultsOnly) else sys.stdout.write
    try:
        write(text)
        sys.stdout.flush()
    except OSError as error:
        # Otherwise the interpreter would write the rest again at exit, and print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise EmotionError(
                f"standard output cannot be written ({error.strerror}); free disk space, or redirect it "
                "to another file"
            ) from error


class _ResultsOnly(io.TextIOWrapper):
    """Standard output whose text goes to standard error; only `buffer` and `write_result` write results."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def write_result(self, text: str) -> int:
        return super().write(text)


@contextmanager
def results_only_on_stdout() -> Iterator[None]:
    """Send what libraries print to standard error, so that standard output has the results only.

    The camera source of a Jetson, for one, prints lines from C when it starts, and ONNX Runtime calls `print`
    when CUDA does not start. `sys.stdout.buffer` and `write_output` write to standard output as before.
    """
    before = sys.stdout
    try:
        number, error = before.fileno(), sys.stderr.fileno()
    except (AttributeError, OSError):  # a stand-in without a file, or closed
        yield
        return
    before.flush()
    own = os.dup(number)
    os.dup2(error, number)
    sys.stdout = _ResultsOnly(os.fdopen(own, "wb"), encoding=before.encoding, errors=before.errors)
    try:
        yield
    finally:
        os.dup2(own, number)
        with suppress(OSError):  # what is buffered cannot be written: the writer has reported it
            sys.stdout.close()
        sys.stdout = before


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
