"""What every backend is, and how one says that it is not to be had."""

import re
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError

Feeds = Mapping[str, NDArray[Any]]
Outputs = dict[str, NDArray[Any]]


class Backend(Protocol):
    """One graph, ready to run."""

    @property
    def description(self) -> str:
        """What runs the graph, and on what, for people."""
        ...

    def run(self, feeds: Feeds) -> Outputs:
        """Outputs by name. feeds: every input of the graph by name, of the dtype and shape it declares.

        The arrays returned are the caller's: no later run writes to them.
        """
        ...


@runtime_checkable
class Closeable(Protocol):
    """A backend with memory that Python does not give back by itself, or around such a one."""

    def close(self) -> None:
        """Give back all memory; the backend cannot run again. A second call does nothing."""
        ...


def close(backend: Backend) -> None:
    """Give back what a backend holds beside Python's memory, if it holds anything."""
    if isinstance(backend, Closeable):
        backend.close()


class Unavailable(EmotionError):  # noqa: N818 - reads as what is the case
    """A backend that this machine or installation does not have.

    fix: what mends it; None where the reason says it. broken: it is installed and does not start, which is
    worth a warning; what was never installed is not.
    """

    def __init__(self, name: str, reason: str, *, fix: str | None = None, broken: bool = False) -> None:
        mend = f": {fix}, or" if fix else "; or"
        super().__init__(f"backend {name}: {reason}{mend} use --backend cpu")
        self.name = name
        self.reason = reason
        self.fix = fix
        self.broken = broken

    @property
    def notable(self) -> bool:
        """Whether the message about the chosen backend mentions this one: it could be used, after a fix."""
        return self.broken

    @property
    def brief(self) -> str:
        """The reason for a list of several; of what is not there only up to where it says how to get it."""
        return self.reason if self.broken else re.split(r"[.:] ", self.reason)[0]
