"""Extract the frames of a clip that probes look at, and find the people in them."""

import io
import json
from collections.abc import Mapping
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
BOXES_FILE = "boxes.json"  # beside the frames of a clip; written last, so a clip with it is complete

ClipBoxes = dict[str, list[Detection]]  # by file name


def prepare_clip(video: Path, folder: Path, detector: Detector) -> ClipBoxes:
    """Write eight frames of a video, spread evenly over all of them, with the people in each.

    The frames are those that the reader chooses from a folder with all of them. A clip that was prepared
    before is not read again.

    Args:
        video: The video.
        folder: Folder of the frames, `frame_<number of the frame>.jpg`, in the size of the video.
        detector: Finds persons.

    Returns:
        The people of each frame, in the scale that the reader of the data set expects.

    Raises:
        EmotionError: The video cannot be read, or the folder not be written.
    """
    done = folder / BOXES_FILE
    if done.is_file():
        return msgspec.json.decode(done.read_bytes(), type=ClipBoxes)
    boxes = {}
    for number, image_bgr in spread_frames(video).items():
        name = f"frame_{number}.jpg"
        write_atomically(folder / name, _jpeg(image_bgr))
        boxes[name] = scaled_detections(detector, image_bgr)
    write_atomically(done, json.dumps(boxes))
    return boxes


def spread_frames(video: Path) -> Mapping[int, NDArray[np.uint8]]:
    """Return eight frames of a video by their number from 0; fewer if the video has fewer.

    Returns:
        (H, W, 3) uint8 BGR each, upright and of square pixels.

    Raises:
        EmotionError: The video cannot be read, or has no frames.
    """
    count = _count(video)
    wanted = set(uniform(0, count - 1))
    opened = open_video(str(video))
    try:
        return {i: opened.image(frame) for i, (_, frame) in enumerate(opened.frames()) if i in wanted}
    finally:
        opened.close()


def scaled_detections(detector: Detector, image_bgr: NDArray[np.uint8]) -> list[Detection]:
    """Return the persons in an image, in the scale of a detector that saw it in a square of 640 pixels."""
    found = detector(image_bgr)
    height, width = image_bgr.shape[:2]
    scale = min(DETECTOR_SIDE / width, DETECTOR_SIDE / height)
    rows = np.column_stack([found.boxes * scale, found.scores]).astype(float).round(4)
    return [(x1, y1, x2, y2, score) for x1, y1, x2, y2, score in rows.tolist()]


def _count(video: Path) -> int:
    """Return the number of frames, by decoding them: headers are rounded, and may be wrong."""
    opened = open_video(str(video))
    try:
        count = sum(1 for _ in opened.frames())
    finally:
        opened.close()
    if not count:
        raise EmotionError(f"video {video} has no frames: get an intact copy of it")
    return count


def _jpeg(image_bgr: NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image_bgr[:, :, ::-1])).save(data, "JPEG", quality=QUALITY)
    return data.getvalue()
