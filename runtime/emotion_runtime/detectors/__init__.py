"""Person detectors: the interface, and the function that opens one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.detectors import centerface, yolo
from emotion_runtime.detectors.heads import HeadFinder, HeadsOfPersons
from emotion_runtime.detectors.network import NetworkDetector
from emotion_runtime.errors import EmotionError
from emotion_runtime.names import DetectorSize
from emotion_runtime.types import Detections


class Detector(Protocol):
    """Finds persons in an image."""

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """Return the persons in an image (H, W, 3) uint8 BGR, best first, with boxes inside the image."""
        ...


def open_detector(
    detector: str | Path | Detector, *, size: DetectorSize = "auto", score: float | None = None
) -> Detector:
    """Return a detector that was given by its name or as a callable of the user's own.

    Raises:
        EmotionError: See `load_detector`; or a size or score is given for a callable.
    """
    if isinstance(detector, str | Path):
        return load_detector(str(detector), size=size, score=score)
    if size != "auto" or score is not None:
        raise EmotionError(
            f"detector_size {size}, detector_score {score}: a callable detector chooses its own; omit them"
        )
    return detector


def batches(detector: Detector) -> bool:
    """Return whether a detector takes less time for several images together than one by one."""
    return isinstance(detector, NetworkDetector) and detector.batches


def find_all(
    detector: Detector, images_bgr: Sequence[NDArray[np.uint8]], *, photos: bool = False
) -> list[Detections]:
    """Return the persons in each image (H, W, 3) uint8 BGR. A user's own callable takes one at a time.

    Args:
        detector: The detector.
        images_bgr: The images.
        photos: As for `NetworkDetector.find_all`.
    """
    if isinstance(detector, NetworkDetector):
        return detector.find_all(images_bgr, photos=photos)
    return [detector(image) for image in images_bgr]


def head_finder(detector: Detector) -> HeadFinder | None:
    """Return what finds the heads of the persons that a detector found.

    None for a detector that finds heads itself, and for a callable of the user's own.
    """
    if isinstance(detector, yolo.Yolo) and not detector.finds_heads:
        return HeadsOfPersons()
    return None


def load_detector(
    name: str, *, threads: int = 0, score: float | None = None, size: DetectorSize = "auto"
) -> Detector:
    """Load a detector.

    Args:
        name: "face" (CenterFace, finds heads), or the path of a YOLOX or ultralytics ONNX file (whole
            persons).
        threads: Number of ONNX Runtime's threads. 0: as many as the encoders have.
        score: Minimum score of a detection, in (0, 1), also of somebody new. None: the detector's own
            default, and 0.5 for somebody new.
        size: Long side in pixels to which a frame is resized, from 64 to 4096. "auto": for faces see
            `centerface.automatic_size`, for a file the size that it states. Only a file with a dynamic input
            accepts other sizes, which are rounded up to a multiple of 32.

    Raises:
        EmotionError: ONNX Runtime or the file is missing, the file is not a supported detector, or a value is
            out of range.
    """
    if threads < 0:
        raise EmotionError(f"detector threads {threads}: expected 0 (automatic) or more")
    if score is not None and not (isinstance(score, int | float) and 0 < score < 1):
        raise EmotionError(f"detector score {score}: expected a number between 0 and 1")
    if size != "auto" and (isinstance(size, bool) or not isinstance(size, int) or not 64 <= size <= 4096):
        raise EmotionError(
            f"detector size {size}: expected `auto` or a whole number from 64 to 4096 (pixels)"
        )
    side = None if size == "auto" else size
    if name == "face":
        return centerface.CenterFace(threads=threads, score=score, long_side=side)
    if Path(name).suffix.lower() != ".onnx":
        raise EmotionError(f"detector {name!r}: expected `face` or the path of an .onnx file")
    return yolo.Yolo(Path(name), threads=threads, score=score, size=side)
