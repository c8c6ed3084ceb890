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
_BACK = 10.0  # seconds; where a file without a good index is entered when a seek landed too late


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """width, height: pixels of an upright frame. last: when the last frame begins, seconds from the first.

    step: seconds from a frame to the next, nominally.
    """

    width: int
    height: int
    last: float
    step: float


def video_info(path: Path) -> VideoInfo:
    """How large and how long a video is, from its first and its last frames.

    Raises:
        EmotionError: the file is missing, broken or no video.

    """
    with _opened(path) as video:
        height, width = _upright(video.first).shape[:2]
        # Headers round, and count the sound: the last frames themselves say when the pictures end.
        stated = float((video.stream.duration or 0) * video.stream.time_base)
        for entry in (stated, stated - _BACK):
            times = [t for t, _ in video.frames()] if video.seek(entry) else []
            if times:
                return VideoInfo(width, height, times[-1], video.step)
    with _opened(path) as video:
        *_, last = [0.0, *(t for t, _ in video.frames())]
        return VideoInfo(width, height, last, video.step)


def video_frames(path: Path, moments: Sequence[float]) -> list[NDArray[np.uint8]]:
    """The frames shown at each moment, seconds after the first frame; each (H, W, 3) uint8 RGB, upright.

    Raises:
        EmotionError: the file is missing, broken, no video, or ends before one of the moments.

    """
    with _opened(path) as video:
        return [_upright(_shown(video, moment)) for moment in moments]


@dataclass(frozen=True, slots=True)
class _Video:
    """An open file of which the first frame has been decoded."""

    path: Path
    container: Any
    stream: Any
    first: Any

    @property
    def step(self) -> float:
        return 1 / float(self.stream.average_rate or _DEFAULT_RATE)

    def seek(self, moment: float) -> bool:
        """Go to a key frame: the last before the moment, if the file's index is good. False: it has none."""
        import av  # noqa: PLC0415 - slow

        try:
            self.container.seek(self.first.pts + int(moment / self.stream.time_base), stream=self.stream)
        except av.error.FFmpegError:
            return False
        return True

    def frames(self) -> Iterator[tuple[float, Any]]:
        """Seconds from the first frame, and the frame, from where the file stands to its end."""
        last = -float("inf")
        for picture in self.container.decode(self.stream):
            if picture.pts is None:
                raise EmotionError(f"video {self.path} has frames without a time: convert it to .mp4")
            t = float((picture.pts - self.first.pts) * self.stream.time_base)
            if t <= last:
                raise EmotionError(f"video {self.path} has times that do not rise: convert it to .mp4")
            last = t
            yield t, picture

    def until(self, moment: float, shown: Any = None) -> Any:
        """The last frame that begins no later than the moment; `shown` when none is decoded before it."""
        end = 0.0
        for t, picture in self.frames():
            if t > moment + _GRACE:
                return shown
            lasts = float(picture.duration * picture.time_base) if picture.duration else self.step
            shown, end = picture, t + lasts
        if shown is not None and end < moment - _GRACE:
            raise EmotionError(f"video {self.path} ends at {end:.2f} s, before the {moment:.2f} s asked for")
        return shown


@contextmanager
def _opened(path: Path) -> Iterator[_Video]:
    """The file; whatever FFmpeg cannot read in it becomes an `EmotionError`."""
    import av  # noqa: PLC0415 - slow, and needed for videos only

    if not path.is_file():
        raise EmotionError(f"no video {path}: was it moved since the data set was read?")
    try:
        with av.open(str(path)) as container:
            stream = next(iter(container.streams.video), None)
            first = None if stream is None else next(container.decode(stream), None)
            if first is None:
                raise EmotionError(f"video {path} holds no pictures: expected a whole video file")
            if first.pts is None:
                raise EmotionError(f"video {path} has frames without a time: convert it to .mp4")
            yield _Video(path, container, stream, first)
    except av.error.FFmpegError as error:
        reason = error.strerror
        raise EmotionError(f"video {path} cannot be decoded ({reason}): get a whole copy of it") from error


def _shown(video: _Video, moment: float) -> Any:
    """The frame shown at a moment."""
    if moment < 0:
        raise EmotionError(f"video {video.path} has no frame at {moment:.2f} s: expected a moment from 0 on")
    for entry in (moment, moment - _BACK):
        shown = video.until(moment) if video.seek(entry) else None
        if shown is not None:
            return shown
    with _opened(video.path) as again:
        return again.until(moment, again.first)


def _upright(picture: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB, turned as the file asks for: telephones film lying down."""
    image: NDArray[np.uint8] = picture.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(picture.rotation / 90) % 4))
