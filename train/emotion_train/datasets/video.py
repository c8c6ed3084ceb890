"""Single moments of video files, through PyAV."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError

_DEFAULT_RATE = 25.0  # frames per second of a file that states no times
_GRACE = 1e-3  # seconds; written times are rounded


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """width, height: pixels of an upright frame. last: when the last frame begins, seconds from the first.

    step: seconds from a frame to the next, nominally.
    """

    width: int
    height: int
    last: float
    step: float


def video_facts(path: Path) -> VideoFacts:
    """How large and how long a video is, from its first and its last frames.

    Raises:
        EmotionError: the file is missing, broken or no video.

    """
    with _opened(path) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise EmotionError(f"video {path} holds no frame: get a whole copy of it")
        height, width = _upright(first).shape[:2]
        stated = stream.duration or 0
        # Headers round, and count the sound: the last frames themselves say when the pictures end.
        for sought in (stated, 0):
            container.seek((stream.start_time or 0) + sought, stream=stream)
            times = [_time(path, picture, stream) for picture in container.decode(stream)]
            if times:
                return VideoFacts(width, height, max(times), 1 / _rate(stream))
        raise EmotionError(f"video {path} cannot be read to its end: get a whole copy of it")


def video_pictures(path: Path, moments: Sequence[float]) -> list[NDArray[np.uint8]]:
    """The frames shown at each moment, seconds after the first frame; each (H, W, 3) uint8 RGB, upright.

    Raises:
        EmotionError: the file is missing, broken, no video, or ends before one of the moments.

    """
    with _opened(path) as (container, stream):
        return [_upright(_shown(path, container, stream, moment)) for moment in moments]


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream; whatever FFmpeg cannot read in it becomes an `EmotionError`."""
    import av  # noqa: PLC0415 - slow, and needed for videos only

    if not path.is_file():
        raise EmotionError(f"no video {path}: was it moved since the data set was read?")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise EmotionError(f"video {path} holds no pictures: expected a whole video file")
            yield container, container.streams.video[0]
    except av.error.FFmpegError as error:
        raise EmotionError(
            f"video {path} cannot be decoded ({error.strerror}): get a whole copy of it"
        ) from error


def _shown(path: Path, container: Any, stream: Any, moment: float) -> Any:
    """The last frame that begins no later than the moment."""
    shown, last = None, 0.0
    for sought in (moment, 0.0):  # once more from the start, for files that land after what is sought
        container.seek((stream.start_time or 0) + int(sought / stream.time_base), stream=stream)
        for picture in container.decode(stream):
            t = _time(path, picture, stream)
            if t > moment + _GRACE:
                break
            shown, last = picture, t
        else:  # the end of the video
            end = last + _lasts(shown, stream) if shown is not None else moment
            if end < moment - _GRACE:
                raise EmotionError(f"video {path} ends at {end:.2f} s, before the {moment:.2f} s asked for")
        if shown is not None:
            return shown
    raise EmotionError(f"video {path} has no frame at {moment:.2f} s: expected a moment from 0 on")


def _time(path: Path, picture: Any, stream: Any) -> float:
    """Seconds from the first frame."""
    if picture.pts is None:
        raise EmotionError(f"video {path} has frames without a time: convert it to another format")
    return float((picture.pts - (stream.start_time or 0)) * picture.time_base)


def _rate(stream: Any) -> float:
    return float(stream.average_rate or _DEFAULT_RATE)


def _lasts(picture: Any, stream: Any) -> float:
    """Seconds for which a frame is shown."""
    return float(picture.duration * picture.time_base) if picture.duration else 1 / _rate(stream)


def _upright(picture: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, turned as the file asks for: telephones film lying down."""
    image: NDArray[np.uint8] = picture.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(picture.rotation / 90) % 4))
