"""Sources of frames: one URI syntax for files, cameras and the demo scene."""

import re
from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType

from emotion_runtime.errors import EmotionError
from emotion_runtime.types import Frame

_SUPPORTED = "a video file, `demo`, a camera number or v4l2:///dev/videoN"


class Source:
    """Frames in order of time. As a context manager it releases the device or file at the end."""

    def __init__(self, frames: Generator[Frame, None, None]) -> None:
        self._frames = frames

    def __iter__(self) -> Iterator[Frame]:
        """Return the frames until the source ends."""
        return self._frames

    def __enter__(self) -> "Source":  # noqa: PYI034 - typing.Self needs Python 3.11
        """Return the source itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the source, see `close`."""
        self.close()

    def close(self) -> None:
        """Release the device or file; safe to call twice."""
        self._frames.close()


def open_source(uri: str | int | Path, *, realtime: bool = False) -> Source:
    """Open a source of frames.

    Args:
        uri: Path of a video file, `demo`, a camera number, or v4l2:///dev/videoN.
        realtime: Play a file or the demo at its own speed, and drop and count frames that come too late, as
            for a camera. Otherwise every frame is delivered. A camera is always in real time.

    Raises:
        EmotionError: The source cannot be opened. While iterating: `SourceBroken` if it fails midway.
    """
    # Each source is imported when it is opened, to keep the start-up time short.
    from emotion_runtime.sources import live  # noqa: PLC0415

    text = str(uri)
    if not text:
        raise EmotionError(f"the source is an empty string; give {_SUPPORTED}")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if isinstance(uri, int) or text.isdigit() or (scheme and scheme[1] == "v4l2"):
        from emotion_runtime.sources import camera  # noqa: PLC0415

        return Source(live.newest(camera.read_camera(text), name=text))
    if scheme:  # the rest of the URI may hold a password
        raise EmotionError(f"source {scheme[0]}...: {scheme[1]} is not supported; give {_SUPPORTED}")
    if text == "demo":
        from emotion_runtime.sources import demo  # noqa: PLC0415

        frames = demo.read_demo()
    else:
        from emotion_runtime.sources import file  # noqa: PLC0415

        frames = file.read_file(text)
    # A file may show one frame for a long time, so a gap is not a failure.
    return Source(live.newest(live.paced(frames), name=text, silence=None) if realtime else frames)
