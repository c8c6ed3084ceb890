"""What a program leaves open is closed before the interpreter ends."""

import atexit
import weakref
from contextlib import suppress
from typing import Protocol


class Closable(Protocol):
    """Something with threads, which `close` ends; safe to call twice."""

    def close(self) -> None:
        """End the threads."""


_open: "weakref.WeakSet[Closable]" = weakref.WeakSet()


def close_at_exit(thing: Closable) -> None:
    """Close something at the end of the program, if it still exists.

    Later no thread can be started, so that closing would wait for ever, and OpenCV aborts the process if it
    decodes in a thread when the interpreter ends.
    """
    _open.add(thing)


@atexit.register
def _close() -> None:
    for thing in list(_open):
        with suppress(Exception):  # nobody is left to hear of it, and the others must be closed
            thing.close()
