"""Where frames come from: one URI syntax for files, cameras and the demo scene."""

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol

from emotion_runtime.types import Frame


class Source(Protocol):
    """Frames in order of time. A context manager: leaving it frees the device or file."""

    def __iter__(self) -> Iterator[Frame]:
        """Frames until the source ends."""
        ...

    def __enter__(self) -> "Source":
        """The source itself."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        ...

    def close(self) -> None:
        """Free the device or file; safe to call twice."""
        ...


def open_source(uri: str | int, *, realtime: bool = False) -> Source:
    """Open a source of frames.

    uri: path of a video file; `demo`; camera index; v4l2:///dev/videoN.
    realtime: a file or the demo is paced to its own clock and frames that come too late are dropped and
    counted, as a camera's are; otherwise every frame is delivered. A camera is always real time.

    Raises:
        EmotionError: the source cannot be opened. While iterating: `SourceBroken` when it breaks midway.

    """
    raise NotImplementedError
