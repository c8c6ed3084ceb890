"""Video files, read with PyAV."""

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.types import Frame

_DEFAULT_RATE = 25.0  # frames per second, for a file without timestamps
_IMAGE_BRANDS = {"avif", "heic", "mif1"}
_TEXT_FORMATS = {"tty"}  # FFmpeg would render text files as a video of a terminal


def read_file(path: str) -> Generator[Frame, None, None]:
    """Open a video file and return all of its frames, in order.

    The file is opened at once. `Frame.t` is the presentation time counted from the first frame, strictly
    increasing; `Frame.source` is the path. Frames are rotated as the file specifies.

    Raises:
        EmotionError: The file cannot be opened, or is not a video. While iterating: `SourceBroken`, after
            every frame that can be decoded, if the file is corrupt or truncated.
    """
    container = _open(path)
    return _frames(path, container, container.streams.video[0])


def _open(path: str) -> Any:
    file = Path(path)
    if file.is_dir():
        raise EmotionError(f"source {path} is a folder; give a video file in it")
    if not file.is_file():
        raise EmotionError(f"source {path}: no such file; check the path, or give `demo` or a camera number")
    if file.stat().st_size == 0:
        raise EmotionError(f"source {path}: the file is empty (0 bytes); copy or record it again")
    try:
        container = av.open(path)
    except PermissionError as error:
        raise EmotionError(f"source {path}: no permission to read it; run `chmod +r {path}`") from error
    except av.error.FFmpegError as error:
        raise EmotionError(
            f"source {path}: not a video that FFmpeg can read, or its index is missing ({error.strerror}); "
            "check that it plays in another program"
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
        raise EmotionError(f"source {path}: contains no video (format {kind}); give a video file")
    if _is_image(container):
        raise EmotionError(f"source {path}: an image ({kind}), not a video; give a video file")
    if videos[0].codec_context is None:
        raise EmotionError(
            f"source {path}: FFmpeg has no decoder for its codec; convert it: ffmpeg -i {path} out.mp4"
        )


def _is_image(container: Any) -> bool:
    kind: str = container.format.name
    brand = container.metadata.get("major_brand", "").strip()
    if kind.endswith("_pipe") or kind == "image2" or brand in _IMAGE_BRANDS:
        return True
    return kind == "gif" and bool(container.streams.video[0].frames <= 1)


def _frames(path: str, container: Any, stream: Any) -> Generator[Frame, None, None]:
    step = 1 / float(stream.average_rate or _DEFAULT_RATE)
    damage: list[av.error.FFmpegError] = []
    index, t, first, end = -1, -step, 0.0, 0.0
    with container:
        for decoded in _decodable(container, stream, damage):
            stated = None if decoded.time is None else float(decoded.time)
            if index < 0:
                first = stated or 0.0
            index += 1
            # A timestamp that is missing or does not increase is replaced by the nominal one.
            t = stated - first if stated is not None and stated - first > t else t + step
            end = t + (float(decoded.duration * decoded.time_base) if decoded.duration else step)
            yield Frame(_upright(decoded), index, t, path)
        expected = _expected_seconds(stream, container)
    # Tolerate three frames, half a second or 2 %: containers round, and encoders drop frames at the end.
    short = end < expected - max(0.5, 3 * step, 0.02 * expected)
    if short or damage:
        reason = f"truncated ({expected:.1f} s expected)" if short else f"corrupt ({damage[0].strerror})"
        where = f"after frame {index} ({t:.2f} s)" if index >= 0 else "before its first frame"
        raise SourceBroken(f"source {path} failed {where}: the file is {reason}; get a complete copy of it")


def _decodable(container: Any, stream: Any, damage: list[av.error.FFmpegError]) -> Iterator[Any]:
    """Yield every frame that can be decoded; errors of the others are added to `damage`."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
        except av.error.FFmpegError as error:  # the container itself is corrupt: nothing follows
            damage.append(error)
            return
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:  # one packet is corrupt: later ones may be intact
            damage.append(error)
            continue
        yield from frames


def _expected_seconds(stream: Any, container: Any) -> float:
    """Return the duration that the file states; 0 if it states none.

    Both values are needed: for a truncated AVI, FFmpeg corrects the duration but not the number of frames.
    """
    stated = [0.0]
    if stream.duration:
        stated.append(float(stream.duration * stream.time_base))
    elif container.duration and len(container.streams) == 1:  # otherwise it may be that of the audio
        stated.append(container.duration / av.time_base)
    if stream.frames and stream.average_rate:
        stated.append(float(stream.frames / stream.average_rate))
    return max(stated)


def _upright(decoded: Any) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 BGR, rotated by the file's display matrix: phones record sideways."""
    image: NDArray[np.uint8] = decoded.to_ndarray(format="bgr24")
    turns = round(decoded.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image
