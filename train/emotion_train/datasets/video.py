"""Read single frames of video files with PyAV."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError

_DEFAULT_RATE = 25.0  # frames per second of a file that does not state its rate
_TOLERANCE = 1e-3  # seconds; times in files are rounded
_SEEK_MARGIN = (
    10.0  # seconds; with a bad index a seek can land too late, then it is repeated this much earlier
)


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Size and length of a video.

    Attributes:
        width: Width of an upright frame, pixels.
        height: Height of an upright frame, pixels.
        last: Time of the last frame, seconds from the first.
        step: Nominal time between two frames, seconds.
    """

    width: int
    height: int
    last: float
    step: float


def video_info(path: Path) -> VideoInfo:
    """Return size and length of a video, from its first and its last frames.

    Raises:
        EmotionError: The file is missing, corrupt or not a video.
    """
    with _opened(path) as video:
        height, width = _upright(video.first).shape[:2]
        # Durations in headers are rounded and include the sound, so the last frames are decoded.
        stated = float((video.stream.duration or 0) * video.stream.time_base)
        for entry in (stated, stated - _SEEK_MARGIN):
            times = [t for t, _ in video.frames()] if video.seek(entry) else []
            if times:
                return VideoInfo(width, height, times[-1], video.step)
    with _opened(path) as video:
        *_, last = [0.0, *(t for t, _ in video.frames())]
        return VideoInfo(width, height, last, video.step)


def video_frames(path: Path, times: Sequence[float]) -> list[NDArray[np.uint8]]:
    """Read the frames shown at the given times.

    Args:
        path: The video.
        times: Seconds after the first frame.

    Returns:
        (H, W, 3) uint8 RGB, upright, for each time.

    Raises:
        EmotionError: The file is missing, corrupt, not a video, or ends before one of the times.
    """
    with _opened(path) as video:
        return [_upright(_frame_at(video, time)) for time in times]


@dataclass(frozen=True, slots=True)
class _Video:
    """An open video; `first` is its first frame, already decoded."""

    path: Path
    container: Any
    stream: Any
    first: Any

    @property
    def step(self) -> float:
        return 1 / float(self.stream.average_rate or _DEFAULT_RATE)

    def seek(self, time: float) -> bool:
        """Go to the last key frame before a time if the file's index is good. False: there is no index."""
        import av  # noqa: PLC0415 - slow

        try:
            self.container.seek(self.first.pts + int(time / self.stream.time_base), stream=self.stream)
        except av.error.FFmpegError:
            return False
        return True

    def frames(self) -> Iterator[tuple[float, Any]]:
        """Decode the remaining frames, each with its time in seconds from the first frame."""
        last = -float("inf")
        for frame in self.container.decode(self.stream):
            if frame.pts is None:
                raise EmotionError(f"video {self.path} has frames without a time stamp: convert it to .mp4")
            t = float((frame.pts - self.first.pts) * self.stream.time_base)
            if t <= last:
                raise EmotionError(f"video {self.path} has times that do not increase: convert it to .mp4")
            last = t
            yield t, frame

    def frame_at(self, time: float, shown: Any = None) -> Any:
        """Return the last remaining frame that starts no later than a time; `shown` if there is none."""
        end = 0.0
        for t, frame in self.frames():
            if t > time + _TOLERANCE:
                return shown
            duration = float(frame.duration * frame.time_base) if frame.duration else self.step
            shown, end = frame, t + duration
        if shown is not None and end < time - _TOLERANCE:
            raise EmotionError(
                f"video {self.path} ends at {end:.2f} s, but a frame at {time:.2f} s is needed"
            )
        return shown


@contextmanager
def _opened(path: Path) -> Iterator[_Video]:
    """Open a video, and turn errors of FFmpeg into `EmotionError`."""
    import av  # noqa: PLC0415 - slow, and needed for videos only

    if not path.is_file():
        raise EmotionError(f"no video {path}: was it moved after the data set was read?")
    try:
        with av.open(str(path)) as container:
            stream = next(iter(container.streams.video), None)
            first = None if stream is None else next(container.decode(stream), None)
            if first is None:
                raise EmotionError(f"video {path} has no frames: expected a complete video file")
            if first.pts is None:
                raise EmotionError(f"video {path} has frames without a time stamp: convert it to .mp4")
            yield _Video(path, container, stream, first)
    except av.error.FFmpegError as error:
        reason = error.strerror
        raise EmotionError(f"video {path} cannot be decoded ({reason}): get an intact copy of it") from error


def _frame_at(video: _Video, time: float) -> Any:
    """Return the frame shown at a time."""
    if time < 0:
        raise EmotionError(f"video {video.path} has no frame at {time:.2f} s: expected a time of at least 0")
    for entry in (time, time - _SEEK_MARGIN):
        shown = video.frame_at(time) if video.seek(entry) else None
        if shown is not None:
            return shown
    with _opened(video.path) as again:
        return again.frame_at(time, again.first)


def _upright(frame: Any) -> NDArray[np.uint8]:
    """Convert to (H, W, 3) uint8 RGB, rotated by the display matrix (phones record in sensor orientation)."""
    image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90) % 4))
