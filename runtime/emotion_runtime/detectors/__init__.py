"""Person detectors: the interface, and the function that opens one."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.detectors import centerface, yolo
from emotion_runtime.errors import EmotionError
from emotion_runtime.types import Detections


class Detector(Protocol):
    """Finds persons in an image."""

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """Return the persons in an image (H, W, 3) uint8 BGR, best first, with boxes inside the image."""
        ...


def load_detector(name: str, *, threads: int = 0, score: float | None = None) -> Detector:
    """Load a detector.

    Args:
        name: "face" (CenterFace, finds heads), or the path of a YOLOX or ultralytics ONNX file (whole
            persons).
        threads: Number of ONNX Runtime's threads. 0: as many as the encoders have.
        score: Minimum score of a detection, in (0, 1). None: the detector's own default.

    Raises:
        EmotionError: ONNX Runtime or the file is missing, or the file is not a supported detector.
    """
    if threads < 0:
        raise EmotionError(f"detector threads {threads}: expected 0 (automatic) or more")
    if score is not None and not 0 < score < 1:
        raise EmotionError(f"detector score {score}: expected a number between 0 and 1")
    if name == "face":
        return centerface.CenterFace(threads=threads, score=centerface.SCORE if score is None else score)
    if Path(name).suffix.lower() != ".onnx":
        raise EmotionError(f"unknown detector {name!r}: expected `face` or the path of an .onnx file")
    return yolo.Yolo(Path(name), threads=threads, score=yolo.SCORE if score is None else score)
