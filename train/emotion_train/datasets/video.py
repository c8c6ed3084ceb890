"""Read single frames of video files, at the times and with the geometry of the runtime's reader."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError

_TOLERANCE = 1e-3  # seconds; times in files are rounded
_SEEK_MARGIN = (
    10.0  # seconds; with a bad index a seek can land too late, then it is repeated this much earlier
)


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Size and length of a video.

    Attributes:
        width: Width of an upright frame with square pixels, in pixels.
        height: Height of the same.
        first: Time of the first frame, in seconds from the start of the medium: above 0 if the sound begins
            earlier.
        last: Time of the last frame, in seconds.
        step: Nominal time between two frames, seconds.
    """

    width: int
    height: int
    first: float
    last: float
    step: float


def video_info(path: Path) -> VideoInfo:
    """Return size and length of a video, from its first and its last frames.

    Raises:
        EmotionError: The file is missing, corrupt or not a video.
    """
    with _opened(path) as video:
        first = next(video.frames(), None)
        if first is None:
            raise EmotionError(f"video {path} has no frames: expected a complete video file")
        height, width = video.image(first[1]).shape[:2]
        last = _last_time(video)
        step = video.step
    if last is None:
        with _opened(path) as video:
            *_, last = (t for t, _ in video.frames())
    return VideoInfo(width, height, first[0], last, step)


def video_frames(path: Path, times: Sequence[float]) -> list[NDArray[np.uint8]]:
    """Read the frames shown at the given times.

    Args:
        path: The video.
        times: Seconds from the start of the medium, as players count them.

    Returns:
        (H, W, 3) uint8 RGB, upright and of square pixels, for each time.

    Raises:
        EmotionError: The file is missing, corrupt, not a video, or has no frame at one of the times.
    """
    with _opened(path) as video:
        next(video.frames(), None)  # so that it is known whether the video is interlaced
        return [_image_at(video, path, time) for time in times]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a video, a `media.video.Video` or an animation."""
    from emotion_runtime.media.video import open_video  # noqa: PLC0415 - slow, and needed for videos only

    if not path.is_file():
        raise EmotionError(f"no video {path}: was it moved after the data set was read?")
    video = open_video(str(path))
    try:
        yield video
    finally:
        video.close()


def _last_time(video: Any) -> float | None:
    """Return the time of the last frame, if the file can be searched for it."""
    # Durations in headers are rounded and may be those of the sound, so the last frames are decoded.
    for entry in (video.stated_end(), video.stated_end() - _SEEK_MARGIN):
        times: list[float] = [t for t, _ in video.frames()] if video.seek(max(entry, 0.0)) else []
        if times and not video.irregular:
            return times[-1]
    return None


def _image_at(video: Any, path: Path, time: float) -> NDArray[np.uint8]:
    """Return the image (H, W, 3) uint8 RGB shown at a time."""
    if time < 0:
        raise EmotionError(f"video {path} has no frame at {time:.2f} s: expected a time of at least 0")
    before = 2 * video.step if video.interlaced else 0.0  # the filter needs the frames before
    for entry in () if video.irregular else (time - before, time - _SEEK_MARGIN):
        shown = _shown_at(video, path, time) if video.seek(max(entry, 0.0)) else None
        if shown is not None and not video.irregular:
            return _rgb(video, shown)
    with _opened(path) as again:
        shown = _shown_at(again, path, time, earliest=True)
        if shown is None:
            raise EmotionError(f"video {path} has no frames: expected a complete video file")
        return _rgb(again, shown)


def _shown_at(video: Any, path: Path, time: float, *, earliest: bool = False) -> Any:
    """Return the last of the frames that follow which starts no later than a time; None if there is none.

    Args:
        video: The open video.
        path: Its file.
        time: The time, in seconds.
        earliest: The frames are all of the video: none is shown before the first, except by rounding.
    """
    shown, end = None, 0.0
    for t, decoded in video.frames():
        if t > time + _TOLERANCE:
            if earliest and shown is None:
                if t > time + 2 * video.step:
                    raise EmotionError(
                        f"video {path} begins at {t:.2f} s, but a frame at {time:.2f} s is needed"
                    )
                shown = decoded
            break
        shown, end = decoded, video.end(t, decoded)
    else:
        if video.irregular and not earliest:
            return None
        if shown is not None and end < time - _TOLERANCE:
            raise EmotionError(f"video {path} ends at {end:.2f} s, but a frame at {time:.2f} s is needed")
    if video.damage:
        raise EmotionError(f"video {path} cannot be decoded ({video.damage}): get an intact copy of it")
    return shown


def _rgb(video: Any, decoded: Any) -> NDArray[np.uint8]:
    return np.ascontiguousarray(video.image(decoded)[:, :, ::-1])
