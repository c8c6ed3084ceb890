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
    """width, height: pixels of an upright frame. last: when the last frame begins, seconds from the first."""

    width: int
    height: int
    last: float


def video_facts(path: Path) -> VideoFacts:
    """What a video's header says; only its first frame is decoded.

    Raises:
        EmotionError: the file is missing, no video, or does not say how long it is.

    """
    with _opened(path) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise EmotionError(f"video {path} holds no frame: get a whole copy of it")
        height, width = _upright(first).shape[:2]
        if stream.duration:
            seconds = float(stream.duration * stream.time_base)
        elif container.duration:
            seconds = container.duration / 1_000_000  # microseconds
        else:
            raise EmotionError(f"video {path} does not say how long it is: convert it to another format")
        return VideoFacts(width, height, max(seconds - 1 / float(stream.average_rate or _DEFAULT_RATE), 0.0))


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
                raise EmotionError(f"video {path} holds no pictures: expected a video file")
            yield container, container.streams.video[0]
    except av.error.FFmpegError as error:
        raise EmotionError(
            f"video {path} cannot be decoded ({error.strerror}): get a whole copy of it"
        ) from error


def _shown(path: Path, container: Any, stream: Any, moment: float) -> Any:
    """The last frame that begins no later than the moment."""
    start = float((stream.start_time or 0) * stream.time_base)
    shown, end = None, 0.0
    for sought in (moment, 0.0):  # once more from the start, for files that land after what is sought
        container.seek(int((start + sought) / stream.time_base), stream=stream)
        for picture in container.decode(stream):
            if picture.time is None:
                raise EmotionError(f"video {path} has frames without a time: convert it to another format")
            t = picture.time - start
            if t > moment + _GRACE:
                break
            shown, end = picture, t + _lasts(picture, stream)
        else:
            if end < moment - _GRACE:
                raise EmotionError(f"video {path} ends at {end:.2f} s, before the {moment:.2f} s asked for")
        if shown is not None:
            return shown
    raise EmotionError(f"video {path} has no frame at {moment:.2f} s: expected a moment from 0 on")


def _lasts(picture: Any, stream: Any) -> float:
    """Seconds for which a frame is shown."""
    if picture.duration:
        return float(picture.duration * picture.time_base)
    return 1 / float(stream.average_rate or _DEFAULT_RATE)


def _upright(picture: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, turned as the file asks for: telephones film lying down."""
    image: NDArray[np.uint8] = picture.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(picture.rotation / 90) % 4))
