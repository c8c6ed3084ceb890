"""Person detectors from ONNX files: YOLOX, and ultralytics exports with or without built-in NMS."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.onnx import onnx_errors, open_session
from emotion_runtime.detectors.boxes import clip, non_maximum_suppression, to_frame
from emotion_runtime.detectors.constant_weights import with_constant_weights
from emotion_runtime.detectors.graph import DetectorGraph, Size, take_frames
from emotion_runtime.detectors.network import CpuNetwork, NetworkDetector, Outputs, Placement
from emotion_runtime.detectors.yolo_export import (
    EXPORT_AGAIN,
    PERSON,
    STRIDES,
    Layout,
    check_boxes,
    check_classes,
    check_scores,
    check_task,
    check_trial,
    layout_of,
    metadata_of,
    scores_in,
)
from emotion_runtime.errors import EmotionError
from emotion_runtime.types import Detections

SCORE = 0.25
IOU = 0.5
GREY = 114  # padding value of the letterbox in both families
DEFAULT_SIDE = 640  # input side of a dynamic export that does not state it, pixels


class Yolo(NetworkDetector):
    """Finds persons (class 0 of COCO). See `emotion_runtime.detectors.Detector`.

    The family is recognised by the shape of the output. YOLOX takes BGR in [0, 255], letterboxed to the top
    left; ultralytics takes RGB in [0, 1], letterboxed to the centre. A dynamic ultralytics export gets the
    smallest rectangle that contains the image, as in ultralytics' own predict.

    Args:
        path: The ONNX file.
        threads: Number of ONNX Runtime's threads. 0: as many as the encoders have.
        score: Minimum score of a detection, in (0, 1).
        iou: Detections that overlap a better one by more than this intersection over union are dropped.
        size: Side of the input in pixels, for a file with a dynamic input. None: the size that the file
            states.

    Attributes:
        finds_heads: Whether the file names its class a head or face, so that boxes are not of whole persons.

    Raises:
        EmotionError: The file is missing or not a supported detector, or ONNX Runtime is missing. A call
            raises it too if scores are not probabilities or boxes not in pixels,
            see `check_scores` and `check_boxes`.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 0,
        score: float | None = None,
        iou: float = IOU,
        size: int | None = None,
    ) -> None:
        if not path.is_file():
            raise EmotionError(f"detector {path}: no such file; give `face` or the path of an ONNX file")
        session = open_session(
            with_constant_weights(path), name=f"detector {path}", fix=EXPORT_AGAIN, threads=threads
        )
        self._path, self._iou = path, iou
        name, self._size, self._dynamic = _input_of(session, path)
        if size is not None:
            self._size = _asked_size(size, self._size, path, dynamic=self._dynamic)
        check_task(session, path)
        output = _trial_run(session, name, self._size, path)
        self._layout = layout_of(output.shape, self._size, session, path)
        check_trial(session, output[0], self._layout, path)
        self.finds_heads = check_classes(session, path)
        graph = _graph_of(path, self._layout)
        super().__init__(graph, CpuNetwork(graph, fix=EXPORT_AGAIN, threads=threads), score, SCORE)

    def prepare(self, image_bgr: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Placement]:
        """Return the image, letterboxed."""
        height, width = image_bgr.shape[:2]
        size = _rectangle(height, width, self._size) if self._dynamic else self._size
        return _letterbox(image_bgr, size, centered=self._layout != "yolox")

    def decode(self, outputs: Outputs, placement: Placement, size: Size) -> Detections:
        """Return the persons in an image of `size` (height, width)."""
        output = outputs[0]  # (N, 85), (84, N) or (300, 6)
        # Repeated for every image: an export without metadata may show only here that it is not a detector.
        self.check_numbers(scores_in(output, self._layout))
        check_scores(output, self._layout, self._path)
        check_boxes(output, self._layout, self._path)
        boxes, scores = decode(output, self._layout, placement.size)
        kept = scores > self.score
        self.check_numbers(boxes[kept], "boxes")
        boxes = to_frame(boxes[kept], placement.corner, placement.scale)
        detections = Detections(boxes, scores[kept])
        if self._layout != "end2end":
            detections = non_maximum_suppression(detections, score=self.score, iou=self._iou)
        return clip(detections, *size)

    def comparable(self, output: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return an output without what rounding exchanges: rows of an end-to-end export, sorted by score."""
        return output[..., 4] if self._layout == "end2end" else output


def _trial_run(session: Any, name: str, size: Size, path: Path) -> NDArray[np.float32]:
    """Return the first output for a black image: a dynamic export does not declare its shape."""
    try:
        output: Any = session.run(None, {name: np.zeros((1, 3, *size), np.float32)})[0]
    except onnx_errors() as error:
        reason = " ".join(str(error).split())
        raise EmotionError(
            f"detector {path}: running it on an image of {size} failed ({reason}); {EXPORT_AGAIN}"
        ) from error
    # An ONNX output may also be a list of tensors, which has no shape.
    return output if isinstance(output, np.ndarray) else np.zeros((), np.float32)


def _graph_of(path: Path, layout: Layout) -> DetectorGraph:
    """Return the network of a file. YOLOX takes BGR in [0, 255], ultralytics RGB in [0, 1]."""
    import onnx  # noqa: PLC0415 - slow to import; only detectors need it

    ultralytics = layout != "yolox"
    divisor = 255 if ultralytics else 1
    return take_frames(onnx.load(path), f"detector {path}", str(path), rgb=ultralytics, divisor=divisor)


def decode(
    output: NDArray[np.float32], layout: Layout, size: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Decode an output of the network.

    Args:
        output: The output without its batch axis.
        layout: The family of the network.
        size: (height, width) of the input in pixels.

    Returns:
        Boxes (N, 4) x1, y1, x2, y2 in network pixels, and scores (N,), which are 0 if another class is more
        probable.
    """
    if layout == "end2end":  # rows of x1, y1, x2, y2, score, class
        return output[:, :4], np.where(output[:, 5] == PERSON, output[:, 4], 0).astype(np.float32)
    if layout == "ultralytics":  # columns of centre, size, class scores
        rows = output.T
        center, extent, classes = rows[:, :2], rows[:, 2:4], rows[:, 4:]
    else:  # rows of centre in cells from the grid point, logarithm of size in cells, objectness, class scores
        points, stride = _grid(size)
        center = (output[:, :2] + points) * stride
        extent = np.exp(output[:, 2:4]) * stride
        classes = output[:, 4:5] * output[:, 5:]
    boxes = np.concatenate([center - extent / 2, center + extent / 2], axis=1)
    scores = np.where(classes.argmax(axis=1) == PERSON, classes[:, PERSON], 0).astype(np.float32)
    return boxes, scores


def _grid(size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return grid points (N, 2) x, y in cells and their strides (N, 1), row by row, fine to coarse."""
    points, strides = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: size[0] // stride, : size[1] // stride]
        points.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        strides.append(np.full((rows.size, 1), stride))
    return np.concatenate(points).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _asked_size(size: int, stated: tuple[int, int], path: Path, *, dynamic: bool) -> tuple[int, int]:
    """Return the input size (height, width) for a side that was asked for."""
    if dynamic:
        side = -(-size // STRIDES[-1]) * STRIDES[-1]
        return side, side
    if size != max(stated):
        raise EmotionError(
            f"detector {path}: its input is fixed at {stated[1]} x {stated[0]} pixels, {size} was asked for; "
            f"omit the size, or export the detector with imgsz={size} or dynamic=True"
        )
    return stated


def _rectangle(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """Return the smallest input size, in multiples of the coarsest stride, for the image scaled to `size`."""
    scale = min(size[0] / height, size[1] / width)
    coarse = STRIDES[-1]
    return -(-round(height * scale) // coarse) * coarse, -(-round(width * scale) // coarse) * coarse


def _letterbox(
    image_bgr: NDArray[np.uint8], size: tuple[int, int], *, centered: bool
) -> tuple[NDArray[np.uint8], Placement]:
    """Return the image on a grey canvas of `size` (height, width), and where it is."""
    height, width = image_bgr.shape[:2]
    fit = min(size[0] / height, size[1] / width)
    rows, columns = max(round(height * fit), 1), max(round(width * fit), 1)
    # Both families are trained with bilinear interpolation, not area, so they expect it.
    small = cv2.resize(image_bgr, (columns, rows), interpolation=cv2.INTER_LINEAR)
    # If the padding is odd, the smaller half comes first, as in ultralytics.
    left, top = ((size[1] - columns) // 2, (size[0] - rows) // 2) if centered else (0, 0)
    canvas = np.full((*size, 3), GREY, np.uint8)
    canvas[top : top + rows, left : left + columns] = small
    return canvas, Placement(size, (left, top), (columns / width, rows / height))


def _input_of(session: Any, path: Path) -> tuple[str, tuple[int, int], bool]:
    """Return the name of the input, its (height, width), and whether it accepts other sizes."""
    inputs = session.get_inputs()
    fits = [
        tensor.type == "tensor(float)"
        and len(tensor.shape) == 4
        and tensor.shape[1] == 3
        and (tensor.shape[0] == 1 or not isinstance(tensor.shape[0], int))
        for tensor in inputs
    ]
    if fits != [True]:
        stated = ", ".join(f"{tensor.name} of {tensor.type} {tensor.shape}" for tensor in inputs)
        raise EmotionError(
            f"detector {path}: input {stated or 'none'}; expected one float32 input "
            "(1, 3, height, width); export it in fp32 for one image at a time, or give `face`"
        )
    name, (height, width) = inputs[0].name, inputs[0].shape[2:]
    if isinstance(height, int) and isinstance(width, int):
        return name, (height, width), False
    sides = metadata_of(session, "imgsz", path) or [DEFAULT_SIDE, DEFAULT_SIDE]
    if not (isinstance(sides, list) and len(sides) == 2 and all(isinstance(side, int) for side in sides)):
        raise EmotionError(f"detector {path}: imgsz {sides}, expected [height, width]; {EXPORT_AGAIN}")
    return name, (sides[0], sides[1]), True
