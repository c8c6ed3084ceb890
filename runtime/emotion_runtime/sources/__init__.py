"""Where frames come from: one URI syntax for files, cameras and the demo scene."""

import re
from collections.abc import Generator, Iterator
from pathlib import Path
from types import TracebackType

from emotion_runtime.errors import EmotionError
from emotion_runtime.types import Frame

_ACCEPTED = "a video file, `demo`, a camera number or v4l2:///dev/videoN"


class Source:
    """Frames in order of time. A context manager: leaving it frees the device or file."""

    def __init__(self, frames: Generator[Frame, None, None]) -> None:
        self._frames = frames

    def __iter__(self) -> Iterator[Frame]:
        """Frames until the source ends."""
        return self._frames

    def __enter__(self) -> "Source":  # noqa: PYI034 - typing.Self needs Python 3.11
        """The source itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Free the device or file; safe to call twice."""
        self._frames.close()


def open_source(uri: str | int | Path, *, realtime: bool = False) -> Source:
    """Open a source of frames.

    uri: path of a video file; `demo`; camera number; v4l2:///dev/videoN.
    realtime: a file or the demo is paced to its own clock and frames that come too late are dropped and
    counted, as a camera's are; otherwise every frame is delivered. A camera is always real time.

    Raises:
        EmotionError: the source cannot be opened. While iterating: `SourceBroken` when it breaks midway.

    """
    # What a source needs is imported when it is opened: start-up is a figure we report.
    from emotion_runtime.sources import live  # noqa: PLC0415

    text = str(uri)
    if not text:
        raise EmotionError(f"source is empty; give {_ACCEPTED}")
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if isinstance(uri, int) or text.isdigit() or (scheme and scheme[1] == "v4l2"):
        from emotion_runtime.sources import camera  # noqa: PLC0415

        return Source(live.newest(camera.read_camera(text), name=text))
    if scheme:  # the rest of the URI may hold a password
        raise EmotionError(f"source {scheme[0]}...: {scheme[1]} is not in this version; give {_ACCEPTED}")
    if text == "demo":
        from emotion_runtime.sources import demo  # noqa: PLC0415

        frames = demo.read_demo()
    else:
        from emotion_runtime.sources import file  # noqa: PLC0415

        frames = file.read_file(text)
    # A file may hold one picture for as long as it likes, so silence is no break.
    return Source(live.newest(live.paced(frames), name=text, silence=None) if realtime else frames)
