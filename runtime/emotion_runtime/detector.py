"""Persons in a picture."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.types import Detections


class Detector(Protocol):
    """Finds persons: (H, W, 3) uint8 BGR -> boxes in pixels of that picture."""

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """Persons of one picture, best first."""
        ...


def load_detector(name: str, *, threads: int = 0, score: float | None = None) -> Detector:
    """Load a detector.

    name: "face" (CenterFace) or the path of a YOLOX or ultralytics ONNX file.
    threads: of ONNX Runtime; 0 leaves the choice to it. score: least score; None: the detector's own default.

    Raises:
        EmotionError: ONNX Runtime or the file is missing, or the file is no detector we know.

    """
    raise NotImplementedError
