"""Video files, through PyAV."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.types import Frame

_DEFAULT_RATE = 25.0  # frames per second of a file that states no times
_PICTURE_BRANDS = {"avif", "heic", "mif1"}
_TEXT_FORMATS = {"tty"}  # FFmpeg plays text files as terminal art


def read_file(path: str) -> Generator[Frame, None, None]:
    """Every frame of a video file, in order.

    The file is opened at once. `Frame.t` is the presentation time counted from the first frame, strictly
    rising; `Frame.source` is the path. Pictures are turned upright as the file asks for.

    Raises:
        EmotionError: the file cannot be opened, or is no video. While iterating: `SourceBroken`, after
            every frame that can be decoded, when the file is damaged or ends too early.

    """
    container = _open(path)
    return _frames(path, container, container.streams.video[0])


def _open(path: str) -> Any:
    file = Path(path)
    if file.is_dir():
        raise EmotionError(f"source {path}: this is a folder; give a video file in it")
    if not file.is_file():
        raise EmotionError(f"source {path}: no such file; check the path, or give `demo` or a camera number")
    if file.stat().st_size == 0:
        raise EmotionError(f"source {path}: the file is empty (0 bytes); copy or record it again")
    try:
        container = av.open(path)
    except PermissionError as error:
        raise EmotionError(f"source {path}: no permission to read it; chmod +r {path}") from error
    except av.error.FFmpegError as error:
        raise EmotionError(
            f"source {path}: not a video that FFmpeg can read, or its index is cut off ({error.strerror}); "
            "check that it plays elsewhere"
        ) from error
    try:
        _check(path, container)
    except EmotionError:
        container.close()
        raise
    return container


def _check(path: str, container: Any) -> None:
    videos = container.streams.video
    kind = container.format.name
    if not videos or kind in _TEXT_FORMATS:
        raise EmotionError(f"source {path}: holds no video (format {kind}); give a video file")
    if _is_picture(container):
        raise EmotionError(f"source {path}: a picture ({kind}), not a video; give a video file")
    if videos[0].codec_context is None:
        raise EmotionError(
            f"source {path}: no decoder for its video codec; convert it: ffmpeg -i {path} out.mp4"
        )


def _is_picture(container: Any) -> bool:
    kind: str = container.format.name
    brand = container.metadata.get("major_brand", "").strip()
    if kind.endswith("_pipe") or kind == "image2" or brand in _PICTURE_BRANDS:
        return True
    return kind == "gif" and bool(container.streams.video[0].frames <= 1)


def _frames(path: str, container: Any, stream: Any) -> Generator[Frame, None, None]:
    step = 1 / float(stream.average_rate or _DEFAULT_RATE)
    damage: list[av.error.FFmpegError] = []
    index, t, first, end = -1, -step, 0.0, 0.0
    with container:
        for picture in _decodable(container, stream, damage):
            stated = None if picture.time is None else float(picture.time)
            if index < 0:
                first = stated or 0.0
            index += 1
            # A time that is missing or does not rise is replaced by the nominal one.
            t = stated - first if stated is not None and stated - first > t else t + step
            lasts = float(picture.duration * picture.time_base) if picture.duration else step
            end = t + lasts
            yield Frame(_upright(picture), index, t, path)
        expected = _expected_seconds(stream, container)
    # Three frames or half a second of grace: containers round, and encoders drop frames at the end.
    short = end < expected - max(0.5, 3 * step, 0.02 * expected)
    if short or damage:
        reason = f"cut off ({expected:.1f} s announced)" if short else f"damaged ({damage[0].strerror})"
        where = f"after frame {index} ({t:.2f} s)" if index >= 0 else "before its first frame"
        raise SourceBroken(f"source {path} broke {where}: the file is {reason}; get a whole copy of it")


def _decodable(container: Any, stream: Any, damage: list[av.error.FFmpegError]) -> Iterator[Any]:
    """Every picture that can be decoded; what could not be is noted in `damage`."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
        except av.error.FFmpegError as error:  # the container itself: nothing follows
            damage.append(error)
            return
        try:
            pictures = packet.decode()
        except av.error.FFmpegError as error:  # one packet: later ones may be sound
            damage.append(error)
            continue
        yield from pictures


def _expected_seconds(stream: Any, container: Any) -> float:
    """How long the file says it is; 0 when it does not say.

    Both figures are needed: of an AVI cut off FFmpeg corrects the duration, not the number of frames.
    """
    stated = [0.0]
    if stream.duration:
        stated.append(float(stream.duration * stream.time_base))
    elif container.duration and len(container.streams) == 1:  # else it may be the sound's
        stated.append(container.duration / av.time_base)
    if stream.frames and stream.average_rate:
        stated.append(float(stream.frames / stream.average_rate))
    return max(stated)


def _upright(picture: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 BGR, turned as the file asks for: telephones film lying down."""
    image: NDArray[np.uint8] = picture.to_ndarray(format="bgr24")
    turns = round(picture.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
