"""Extract the frames of videos that probes look at, and find the people in them."""

import io
import json
import logging
import math
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emotion_runtime.detectors import Detector
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_runtime.media.video import open_video
from emotion_train.datasets.boxes import DETECTOR_SIDE, Detection
from emotion_train.datasets.frames import uniform

QUALITY = 95  # of the JPEGs
_TOLERANCE = 1e-3  # seconds; times in files are rounded
BOXES_FILE = "boxes.json"  # beside the frames of a clip; written last, so a clip with it is complete

ClipBoxes = dict[str, list[Detection]]  # by file name

_log = logging.getLogger(__name__)


def prepare_clip(
    video: Path, folder: Path, detector: Detector, numbers: Collection[int] | None = None
) -> ClipBoxes:
    """Write frames of a video, with the people in each.

    A clip of which all these frames were written before is not read again.

    Args:
        video: The video.
        folder: Folder of the frames, `frame_<number of the frame>.jpg`, in the size of the video.
        detector: Finds persons.
        numbers: Numbers of the frames, from 0; None means eight spread evenly over the video, which the
            reader would choose from a folder with all of them.

    Returns:
        The people of each frame, in the scale that the reader of the data set expects.

    Raises:
        EmotionError: The video cannot be read or has none of the frames, or the folder not be written.
    """
    done = folder / BOXES_FILE
    if done.is_file():
        known = msgspec.json.decode(done.read_bytes(), type=ClipBoxes)
        if known and {_name(number) for number in numbers or ()} <= known.keys():
            return known
    boxes = {}
    wanted = spread(video) if numbers is None else set(numbers)
    for number, image_bgr in frames_of(video, wanted):
        write_image(folder / _name(number), image_bgr)
        boxes[_name(number)] = scaled_detections(detector, image_bgr)
    if missing := sorted(number for number in wanted if _name(number) not in boxes):
        reason = (
            f"video {video} ends before frame {missing[0]}; {len(missing)} of {len(wanted)} frames that the "
            "labels are about are missing: get a copy of the length that was labelled"
        )
        if not boxes:
            raise EmotionError(reason)
        _log.warning("%s", reason)
    write_atomically(done, json.dumps(boxes))
    return boxes


def _name(number: int) -> str:
    return f"frame_{number}.jpg"


def spread(video: Path) -> set[int]:
    """Return the numbers of eight frames, spread evenly over a video; fewer if it has fewer.

    Raises:
        EmotionError: The video cannot be read, or has no frames.
    """
    with closing(open_video(str(video))) as opened:
        # Decoded, since the number in a header is rounded, and may be wrong.
        count = sum(1 for _ in opened.frames())
    if not count:
        raise EmotionError(f"video {video} has no frames: get an intact copy of it")
    return set(uniform(0, count - 1))


def frames_of(video: Path, numbers: Collection[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the frames of a video with the given numbers, from 0, as far as it has them.

    Yields:
        The number, and (H, W, 3) uint8 BGR, upright and of square pixels.

    Raises:
        EmotionError: The video cannot be read.
    """
    with closing(open_video(str(video))) as opened:
        for number, (_, frame) in enumerate(opened.frames()):
            if number in numbers:
                yield number, opened.image(frame)


def frames_by_second(video: Path) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the frame that a video shows at each full second, as `frames_of` does, with the second.

    Raises:
        EmotionError: The video cannot be read.
    """
    with closing(open_video(str(video))) as opened:
        second, shown, end = 0, None, 0.0
        for time, frame in opened.frames():
            while shown is not None and second < time - _TOLERANCE:
                yield second, opened.image(shown)
                second += 1
            if shown is None:  # the sound may begin earlier
                second = math.ceil(time - _TOLERANCE)
            shown, end = frame, opened.end(time, frame)
        while shown is not None and second < end - _TOLERANCE:
            yield second, opened.image(shown)
            second += 1


def scaled_detections(detector: Detector, image_bgr: NDArray[np.uint8]) -> list[Detection]:
    """Return the persons in an image, in the scale of a detector that saw it in a square of 640 pixels."""
    found = detector(image_bgr)
    height, width = image_bgr.shape[:2]
    scale = min(DETECTOR_SIDE / width, DETECTOR_SIDE / height)
    rows = np.column_stack([found.boxes * scale, found.scores]).astype(float).round(4)
    return [(x1, y1, x2, y2, score) for x1, y1, x2, y2, score in rows.tolist()]


def write_image(path: Path, image_bgr: NDArray[np.uint8]) -> None:
    """Write a frame as JPEG."""
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image_bgr[:, :, ::-1])).save(data, "JPEG", quality=QUALITY)
    write_atomically(path, data.getvalue())
