"""Whether a detector finds what it finds with ONNX Runtime on the CPU."""

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.detectors.agreement import compare_detections
from emotion_runtime.detectors.network import NetworkDetector

SIZE = (192, 320)


def agree(detector: NetworkDetector, images: list[NDArray[np.uint8]], iou: float) -> bool:
    """Return whether a detector finds what it found with ONNX Runtime on the CPU."""
    found = detector.find_all(images)
    detector.network = detector.reference
    expected = detector.find_all(images)
    agreement = compare_detections(expected, found, score=detector.score)
    assert agreement.boxes >= len(images)
    return agreement.missing == agreement.extra == 0 and agreement.iou_min >= iou
