"""Estimate the length of a video before it is read, for progress bars."""

from pathlib import Path

import av

from emotion_runtime.errors import EmotionError
from emotion_runtime.media.opening import open_container, video_stream


def estimate_frames(path: str) -> int | None:
    """Return the number of frames that the header of a video file states or implies; None if it does not.

    It is an estimate: headers can be wrong. Pipes and devices are not opened.
    """
    if not Path(path).is_file():
        return None
    try:
        opened = open_container(path)
    except EmotionError:  # opening it as a source says what is wrong
        return None
    try:
        stream = video_stream(opened.container)
        if stream is None or stream.frames:
            return None if stream is None else int(stream.frames)
        stated = stream.duration * stream.time_base if stream.duration else 0
        seconds = float(stated) or (opened.container.duration or 0) / av.time_base
        return round(seconds * float(stream.average_rate or 0)) or None
    finally:
        opened.close()
