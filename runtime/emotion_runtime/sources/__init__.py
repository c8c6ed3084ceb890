"""Sources of frames: one URI syntax for files, folders, pipes, cameras and the demo scene."""

import re
from collections.abc import Generator, Iterator
from pathlib import Path
from threading import Event
from types import TracebackType

from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.sources.files import expand, is_pattern
from emotion_runtime.types import Frame

__all__ = ["Source", "expand", "open_source"]

_SUPPORTED = (
    "a video or photo, a folder or pattern of them, `-` for standard input, `demo`, a camera number or "
    "v4l2:///dev/videoN"
)


class Source:
    """Frames in order of time. As a context manager it releases the device or file at the end.

    Args:
        frames: The frames.
        name: Name of the source, for messages.
        stop: Is set by `stop`; whatever `frames` waits for ends then.
    """

    def __init__(
        self, frames: Generator[Frame, None, None], name: str = "", stop: Event | None = None
    ) -> None:
        self._source = frames
        self._frames = _guarded(frames, name)
        self._stop = stop or Event()

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

    def stop(self) -> None:
        """Make the source end soon, whatever it waits for; may be called by a signal handler or a thread."""
        self._stop.set()

    def close(self) -> None:
        """Release the device or file; safe to call twice."""
        self._frames.close()
        self._source.close()  # if no frame was taken, nothing else closes it


def open_source(
    uri: str | int | Path, *, realtime: bool = False, follow: bool = False, stop: Event | None = None
) -> Source:
    """Open a source of frames.

    Args:
        uri: Path of a video or photo, a folder or a pattern (`*.jpg`) of them, a named pipe, `-` for standard
            input, `demo`, a camera number, or v4l2:///dev/videoN. Every file of a folder or pattern is a
            source of its own: `Frame.source` is its path. Photos give one frame each, with `Frame.still`.
        realtime: Play a file or the demo at its own speed, and drop and count frames that come too late, as
            for a camera. Otherwise every frame is delivered. A camera is always in real time.
        follow: At the end of a video file, wait for more: another program is still writing it.
        stop: When it is set, the source ends soon, whatever it waits for. None: only `Source.stop` ends it.

    Raises:
        EmotionError: The source cannot be opened. While iterating: `SourceBroken` if it fails midway.
    """
    # Each source is imported when it is opened, to keep the start-up time short.
    from emotion_runtime.sources import live  # noqa: PLC0415

    if not isinstance(uri, str | int | Path) or isinstance(uri, bool):
        raise EmotionError(f"the source is of type {type(uri).__name__}; give {_SUPPORTED}")
    text = str(uri)
    if not text:
        raise EmotionError(f"the source is an empty string; give {_SUPPORTED}")
    stop = stop or Event()
    if re.fullmatch(r"/dev/video\d+", text):
        text = f"v4l2://{text}"
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if isinstance(uri, int) or text.isdigit() or (scheme and scheme[1] == "v4l2"):
        from emotion_runtime.sources import camera  # noqa: PLC0415

        return Source(live.newest(camera.read_camera(text), name=text, stop=stop), text, stop)
    if scheme:  # the rest of the URI may hold a password
        raise EmotionError(f"source {scheme[0]}...: {scheme[1]} is not supported; give {_SUPPORTED}")
    if text == "demo":
        from emotion_runtime.sources import demo  # noqa: PLC0415

        frames = demo.read_demo()
    else:
        from emotion_runtime.sources import file  # noqa: PLC0415

        several = Path(text).is_dir() or is_pattern(text)
        paths = expand(text) if several else []
        frames = file.read_files(paths) if several else file.read_any(text, follow=follow, stop=stop)
    if not realtime:
        return Source(frames, text, stop)
    # A file may show one frame for a long time, so a gap is not a failure.
    paced = live.paced(frames, stop)
    return Source(live.newest(paced, name=text, silence=None, stop=stop), text, stop)


def _guarded(frames: Generator[Frame, None, None], name: str) -> Generator[Frame, None, None]:
    """Yield frames; an error of the system becomes one of this source, which leaves the others alone."""
    try:
        yield from frames
    except OSError as error:
        raise SourceBroken(
            f"source {name} failed: {error.strerror or error}; check its device or disk"
        ) from error
