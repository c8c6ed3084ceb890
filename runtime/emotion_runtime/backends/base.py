"""The backend interface, and the error for a backend that is not available."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError

Feeds = Mapping[str, NDArray[Any]]
Outputs = dict[str, NDArray[Any]]

IMAGES = "images"  # the one input of the graphs whose rows are not people


class Backend(Protocol):
    """One graph, ready to run."""

    @property
    def name(self) -> str:
        """What `--backend` calls it."""
        ...

    @property
    def description(self) -> str:
        """Name and version of what runs the graph, and the device, for people."""
        ...

    def run(self, feeds: Feeds) -> Outputs:
        """Run the graph once.

        Args:
            feeds: Every input of the graph by name, in the dtype and shape that the graph declares.

        Returns:
            The outputs by name. The arrays belong to the caller: no later run writes to them.
        """
        ...

    def close(self) -> None:
        """Free the memory that Python does not free by itself, such as a GPU's. A second call does nothing.

        A backend on a GPU cannot run again afterwards.
        """
        ...


class Unavailable(EmotionError):  # noqa: N818 - names a state
    """A backend that this machine or installation does not have.

    Args:
        name: The backend.
        reason: Why it is not available.
        fix: What makes it available; None if the reason already contains it.
        broken: The backend is installed but does not start. That is worth a warning; a backend that was never
            installed is not.
        build: Only a TensorRT engine is missing: the arguments of `emotion-export trt` that build it.
    """

    def __init__(
        self,
        name: str,
        reason: str,
        *,
        fix: str | None = None,
        broken: bool = False,
        build: Sequence[str] = (),
    ) -> None:
        how = f": {fix}, or" if fix else "; or"
        super().__init__(f"backend {name}: {reason}{how} use --backend cpu")
        self.name = name
        self.reason = reason
        self.fix = fix
        self.broken = broken
        self.build = build

    @property
    def brief(self) -> str:
        """The reason and the fix, for a list of several."""
        return f"{self.reason}: {self.fix}" if self.fix else self.reason


def count_persons(feeds: Feeds) -> int:
    """Return P: all inputs but the images have one row per person."""
    return next(len(value) for name, value in feeds.items() if name != IMAGES)
