"""Persons in a picture."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.detectors import centerface, yolo
from emotion_runtime.errors import EmotionError
from emotion_runtime.types import Detections


class Detector(Protocol):
    """Finds persons: (H, W, 3) uint8 BGR -> boxes in pixels of that picture."""

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """Persons of one picture, best first, boxes inside the picture."""
        ...


def load_detector(name: str, *, threads: int = 0, score: float | None = None) -> Detector:
    """Load a detector.

    name: "face" (CenterFace: heads) or the path of a YOLOX or ultralytics ONNX file (whole persons).
    threads: of ONNX Runtime; 0: as many as the encoders have. score: least score of a detection, in (0, 1);
    None: the detector's own default.

    Raises:
        EmotionError: ONNX Runtime or the file is missing, or the file is no detector we know.

    """
    if threads < 0:
        raise EmotionError(f"detector threads {threads}: expected 0 (chosen for you) or more")
    if score is not None and not 0 < score < 1:
        raise EmotionError(f"detector score {score}: expected a number between 0 and 1")
    if name == "face":
        return centerface.CenterFace(threads=threads, score=centerface.SCORE if score is None else score)
    if Path(name).suffix.lower() != ".onnx":
        raise EmotionError(f"detector {name!r} is not known: expected `face` or the path of an .onnx file")
    return yolo.Yolo(Path(name), threads=threads, score=yolo.SCORE if score is None else score)
