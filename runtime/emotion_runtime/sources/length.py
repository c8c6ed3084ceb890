"""Estimate the length of a source before it is read, for progress bars."""

from pathlib import Path
from typing import Any

import av

from emotion_runtime.errors import EmotionError
from emotion_runtime.media.images import is_image
from emotion_runtime.media.opening import open_container, video_stream


def estimate_frames(source: str, seconds: float | None = None) -> int | None:
    """Return the number of frames that a source will give; None if it is not known.

    It is an estimate: the header of a file can be wrong. Pipes and devices are not opened.

    Args:
        source: See `open_source`.
        seconds: Only so much of the source is read. None: all of it.
    """
    if source == "demo":
        from emotion_runtime.sources.demo import RATE, SECONDS  # noqa: PLC0415 - loads OpenCV

        return round(RATE * min(SECONDS, seconds or SECONDS))
    if not Path(source).is_file():
        return None
    if is_image(source):
        return 1
    try:
        opened = open_container(source)
    except EmotionError:  # opening it as a source says what is wrong
        return None
    try:
        stream = video_stream(opened.container)
        return None if stream is None else _frames(opened.container, stream, seconds)
    finally:
        opened.close()


def video_format(source: str) -> tuple[str, float | None]:
    """Return the codec and the frames per second of a video file; "" and None if they are not known.

    Args:
        source: See `open_source`.
    """
    if source == "demo":
        from emotion_runtime.sources.demo import RATE  # noqa: PLC0415 - loads OpenCV

        return "", float(RATE)
    if not Path(source).is_file() or is_image(source):
        return "", None
    try:
        opened = open_container(source)
    except EmotionError:
        return "", None
    try:
        stream = video_stream(opened.container)
        if stream is None or stream.codec_context is None:
            return "", None
        return stream.codec_context.name, float(stream.average_rate or 0) or None
    finally:
        opened.close()


def _frames(container: Any, stream: Any, seconds: float | None) -> int | None:
    rate = float(stream.average_rate or 0)
    stated = float(stream.duration * stream.time_base) if stream.duration else 0.0
    length = stated or (container.duration or 0) / av.time_base
    frames = stream.frames or round(length * rate)
    if seconds is not None and rate:
        frames = min(frames or seconds * rate, round(seconds * rate))
    return int(frames) or None
