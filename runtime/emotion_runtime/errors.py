"""Errors that a user can fix. Everything else is a bug and keeps its traceback."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Cause = Literal[
    "connection",
    "authentication",
    "encryption",
    "time-out",
    "not found",
    "permission",
    "format",
    "device",
    "ended",
]


class EmotionError(Exception):
    """A user's mistake, described in one line: what happened, what was expected, what to do.

    The command line prints the message and exits with status 2.

    Attributes:
        option: The option that is wrong, named as in a configuration file, where the message does not begin
            with it.
    """

    option: str | None = None


@contextmanager
def about(option: str) -> Iterator[None]:
    """Note in an error of the block which option it is about."""
    try:
        yield
    except EmotionError as error:
        error.option = option
        raise


class SourceBroken(EmotionError):  # noqa: N818 - names the event
    """A source failed after delivering frames; results so far are valid and kept."""


class ConnectionLost(EmotionError):  # noqa: N818 - names the event
    """A live source cannot be opened, or its connection ended; it is opened again later.

    The message holds neither the URI nor a password.

    Args:
        message: What happened, and what to do about it.
        cause: The kind of fault.
        final: This is no fault: a recording was played to its end, and is not opened again.

    Attributes:
        final: See above.
        cause: The kind of fault. After "authentication", "permission", "not found" and "format", trying again
            soon is of no use.
    """

    def __init__(self, message: str, cause: Cause, *, final: bool = False) -> None:
        super().__init__(message)
        self.cause = cause
        self.final = final


class EngineRejected(EmotionError):  # noqa: N818 - names a state
    """A TensorRT engine that fails to load, or fails the parity check on this device."""
