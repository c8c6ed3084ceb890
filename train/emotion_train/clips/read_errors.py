"""Failures of reading a shard set: their messages, and which of them are tried again."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

from emotion_runtime.errors import EmotionError

PREPARE_AGAIN = "copy it again, or run emotion-train prepare-data again"
RETRY_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before a failed read is tried again
NO_RANGES = (
    "the server sends only whole files, expected support for Range requests; use another server, or copy the "
    "shards to a local folder"
)

_T = TypeVar("_T")


class ReadError(EmotionError):
    """A read that failed and may succeed later: the fault of the network or the disk, not of the data."""


@contextmanager
def as_emotion_error(name: str) -> Iterator[None]:
    """Turn errors that fsspec raises about `name` into an `EmotionError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise EmotionError(
            f"{name}: does not exist or cannot be reached; expected the output of a finished run of "
            "emotion-train prepare-data"
        ) from error
    except ImportError as error:  # some URLs need another package
        raise EmotionError(f"{name}: {error}") from error
    except reading_errors() as error:
        if "range requests" in str(error):
            raise EmotionError(f"{name}: {NO_RANGES}") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ReadError(f"{name}: cannot be read ({reason}); check the address and the network") from error


def retried(read: Callable[[], _T], waits: Sequence[float]) -> _T:
    """Return the result of `read`, which is tried again after each of `waits` if it raises a `ReadError`."""
    for wait in waits:
        with suppress(ReadError):
            return read()
        time.sleep(wait)
    return read()


def reading_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that are raised for unreadable files."""
    # fsspec imports aiohttp for http URLs only; not all of its errors are OSErrors.
    client = sys.modules.get("aiohttp")
    return (OSError, ValueError, client.ClientError) if client else (OSError, ValueError)
