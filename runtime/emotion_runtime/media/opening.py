"""Open a file, a pipe or a growing file with FFmpeg, and choose its video stream."""

import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import av
from av.stream import Disposition

from emotion_runtime.errors import EmotionError
from emotion_runtime.media.streams import GrowingFile, Pipe

_TEXT_FORMATS = {"tty"}  # FFmpeg would render text files as a video of a terminal
# Nothing that comes through a pipe, such as a playlist, may make FFmpeg open files or connections.
_STREAM_OPTIONS = {"protocol_whitelist": "data"}
STDIN = "-"


def file_url(path: Path | str) -> str:
    """Return the URL of a file for FFmpeg, which would take `cam1-10:30.mp4` for a protocol."""
    return f"file:{path}"


@dataclass(frozen=True, slots=True)
class Opened:
    """An open video.

    Attributes:
        container: The container of PyAV; `video_stream` says which stream to decode.
        file: The file that PyAV has opened; None for a pipe and a growing file.
        data: What PyAV reads otherwise.
    """

    container: Any
    file: str | None
    data: Pipe | GrowingFile | None

    def close(self) -> None:
        """Release the file or pipe; safe to call twice."""
        self.container.close()
        if self.data is not None:
            self.data.close()


def is_pipe(path: str) -> bool:
    """Return whether a source is standard input, a named pipe or a device, and so can be read only once."""
    if path == STDIN:
        return True
    file = Path(path)
    return file.is_fifo() or file.is_char_device()


def open_container(path: str, *, follow: bool = False, stop: Event | None = None) -> Opened:
    """Open a video for reading.

    Args:
        path: A file, a named pipe, or "-" for standard input.
        follow: Wait for more data at the end of a file, until `stop` is set.
        stop: Ends waiting for data: what was read so far counts as the whole.

    Raises:
        EmotionError: It is missing, empty, unreadable or not a video.
    """
    stop = stop or Event()
    data: Pipe | GrowingFile | None = None
    if path == STDIN and sys.stdin is not None and sys.stdin.isatty():
        raise EmotionError("source -: standard input is a terminal; pipe a video into it")
    try:
        if path == STDIN and stat.S_ISREG(os.fstat(0).st_mode):
            path = "/dev/stdin"  # redirected from a file, so it can be searched for its index
        if is_pipe(path):
            data = Pipe(path, stop)
        else:
            _check_file(path, follow=follow)
            data = GrowingFile(path, stop) if follow else None
        container = av.open(file_url(path)) if data is None else av.open(data, options=_STREAM_OPTIONS)
    except (OSError, ValueError, av.error.FFmpegError) as error:
        if data is not None:
            data.close()
        raise _unreadable(path, error, piped=data is not None) from error
    opened = Opened(container, path if data is None else None, data)
    try:
        _check_content(path, container)
    except EmotionError:
        opened.close()
        raise
    return opened


def video_stream(container: Any) -> Any:
    """Return the stream that a player shows, or None; a cover image is no video."""
    best = container.streams.best("video")
    if best is not None and not _is_cover(best):
        return best
    return next((stream for stream in container.streams.video if not _is_cover(stream)), None)


def media_start(container: Any) -> float | None:
    """Return the time at which a player starts, in seconds of the container's clock; None if none is stated.

    That is the earliest start of its sound and video.
    """
    starts = [
        float(stream.start_time * stream.time_base)
        for stream in (*container.streams.video, *container.streams.audio)
        if stream.start_time is not None and not _is_cover(stream)
    ]
    return min(starts, default=None)


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & Disposition.attached_pic)


def _check_file(path: str, *, follow: bool) -> None:
    file = Path(path)
    if file.is_dir():
        raise EmotionError(f"source {path} is a folder; give a video file in it")
    if not file.is_file():
        raise EmotionError(f"source {path}: no such file; check the path, or give `demo` or a camera number")
    if not follow and file.stat().st_size == 0:
        raise EmotionError(f"source {path}: the file is empty (0 bytes); copy or record it again")


def _unreadable(path: str, error: Exception, *, piped: bool) -> EmotionError:
    if isinstance(error, PermissionError):
        return EmotionError(f"source {path}: no permission to read it; run `chmod +r {path}`")
    reason = getattr(error, "strerror", None) or str(error)
    fix = "send MPEG-TS or Matroska (ffmpeg ... -f mpegts -)" if piped else "check that it plays elsewhere"
    return EmotionError(
        f"source {path}: not a video that FFmpeg can read, or its index is missing ({reason}); {fix}"
    )


def _check_content(path: str, container: Any) -> None:
    kind = container.format.name
    stream = video_stream(container)
    if stream is None or kind in _TEXT_FORMATS:
        cover = " but a cover image" if len(container.streams.video) else ""
        raise EmotionError(f"source {path}: contains no video{cover} (format {kind}); give a video file")
    if stream.codec_context is None:
        raise EmotionError(
            f"source {path}: FFmpeg has no decoder for its codec; convert it: ffmpeg -i {path} out.mp4"
        )
