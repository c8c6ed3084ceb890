"""CenterFace, the default detector: finds faces and returns heads.

The network is the file centerface.onnx beside this module (MIT), so a fresh install needs no download.
Source: Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019.
"""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.onnx import open_session
from emotion_runtime.detectors.boxes import clip, non_maximum_suppression, to_frame
from emotion_runtime.detectors.constant_weights import make_weights_constant
from emotion_runtime.errors import EmotionError
from emotion_runtime.types import Detections

SCORE = 0.3  # faces with a low score keep a track alive (ByteTrack's second stage) but never start one
IOU = 0.3
# Pixels of the long side of the network's input, if none is given.
LEAST_SIDE, MOST_SIDE = 480, 1280
NETWORK_MULTIPLE = 32
OUTPUT_STRIDE = 4

# A face box reaches from the eyebrows to the chin; a head includes hair and ears.
# Fractions of the face's width (on each side) and height (above, below).
HEAD_SIDE, HEAD_ABOVE, HEAD_BELOW = 0.25, 0.30, 0.05

_FILE = Path(__file__).with_name("centerface.onnx")
_REINSTALL = "reinstall emotion-runtime"


def head_box(face_box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the box of the head around a face, not clipped to a frame.

    Args:
        face_box: (..., 4) x1, y1, x2, y2 as CenterFace marks a face: forehead to chin, ear to ear, typically
            0.76 times as wide as tall.

    Returns:
        (..., 4): 1.5 times the width and 1.35 times the height, including hair and chin, typically 0.84 times
        as wide as tall; the face covers 0.49 of its area.
    """
    x1, y1, x2, y2 = np.moveaxis(np.asarray(face_box, np.float32), -1, 0)
    width, height = x2 - x1, y2 - y1
    sides = (
        x1 - HEAD_SIDE * width,
        y1 - HEAD_ABOVE * height,
        x2 + HEAD_SIDE * width,
        y2 + HEAD_BELOW * height,
    )
    return np.stack(sides, axis=-1)


class CenterFace:
    """Finds faces and returns heads. See `emotion_runtime.detectors.Detector`.

    Args:
        threads: Number of ONNX Runtime's threads. 0: as many as the encoders have.
        score: Minimum score of a face, in (0, 1).
        long_side: Long side in pixels to which images are resized. None: see `automatic_size`.
    """

    def __init__(self, *, threads: int = 0, score: float = SCORE, long_side: int | None = None) -> None:
        self._session = open_session(face_network(), name="detector `face`", fix=_REINSTALL, threads=threads)
        self._score = score
        self._long_side = long_side

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:
        """Return the heads in an image (H, W, 3) uint8 BGR."""
        height, width = image_bgr.shape[:2]
        pixels, scale = _network_input(image_bgr, self._long_side or automatic_size(height, width))
        outputs = self._session.run(None, {"input.1": pixels})
        boxes, scores, landmarks = decode(*outputs, score=self._score)
        corner = np.zeros(2, np.float32)
        boxes, landmarks = to_frame(boxes, corner, scale), to_frame(landmarks, corner, scale)
        faces = Detections(boxes, scores, landmarks.reshape(-1, 5, 2))
        faces = non_maximum_suppression(faces, score=self._score, iou=IOU)
        heads = head_box(faces.boxes)
        return clip(replace(faces, boxes=heads, heads=heads), height, width)


def automatic_size(height: int, width: int) -> int:
    """Return the long side in pixels to which an image of this size is resized.

    It is half of the image's long side, at least 480 and at most 1280 pixels, but never more than the image
    has. Heads of about 60 pixels are then found in images up to 2560 pixels wide.
    """
    side = max(height, width)
    return min(max(-(-side // 2), LEAST_SIDE), MOST_SIDE, side)


def decode(
    heatmap: NDArray[np.float32],
    scale: NDArray[np.float32],
    offset: NDArray[np.float32],
    landmarks: NDArray[np.float32],
    *,
    score: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Decode the network's outputs into faces in network pixels, including overlapping ones.

    Args:
        heatmap: (1, 1, h, w), probability that a face is centred in a cell.
        scale: (1, 2, h, w), logarithm of height and width in cells.
        offset: (1, 2, h, w), position of the centre within its cell, y and x.
        landmarks: (1, 10, h, w), y and x of five points from the corner of the face box, in heights and
            widths of the box.
        score: Minimum score of a face.

    Returns:
        Boxes (N, 4), scores (N,) and landmarks (N, 10), x and y in turn, of the cells above `score`.
    """
    rows, columns = np.nonzero(heatmap[0, 0] > score)
    size = np.exp(scale[0, :, rows, columns]) * OUTPUT_STRIDE  # (N, 2) height, width
    shift = offset[0, :, rows, columns]  # (N, 2)
    cells = np.stack([rows, columns], axis=1).astype(np.float32)
    center = (cells + shift + 0.5) * OUTPUT_STRIDE  # (N, 2) y, x
    low, high = center - size / 2, center + size / 2
    boxes = np.concatenate([low[:, ::-1], high[:, ::-1]], axis=1)
    points = landmarks[0, :, rows, columns].reshape(-1, 5, 2) * size[:, None] + low[:, None]  # y, x
    points = points[:, :, ::-1].reshape(-1, 10)
    return boxes.astype(np.float32), heatmap[0, 0, rows, columns], points.astype(np.float32)


def _network_input(
    image_bgr: NDArray[np.uint8], long_side: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (1, 3, h, w) float32 RGB in [0, 255], sides multiples of 32, and its scale (x, y)."""
    height, width = image_bgr.shape[:2]
    fit = long_side / max(height, width)
    rows, columns = max(round(height * fit), 1), max(round(width * fit), 1)
    # Bilinear interpolation would skip pixels of a large image; at scale 1 this only copies.
    interpolation = cv2.INTER_AREA if fit <= 1 else cv2.INTER_CUBIC
    small = cv2.resize(image_bgr, (columns, rows), interpolation=interpolation)
    # Padded at the right and bottom, so that the image keeps its aspect ratio.
    padded = np.zeros((_round_up(rows), _round_up(columns), 3), np.float32)
    padded[:rows, :columns] = small[:, :, ::-1]
    scale = np.array([columns / width, rows / height], np.float32)
    return np.ascontiguousarray(padded.transpose(2, 0, 1)[None]), scale


def _round_up(side: int) -> int:
    return -(-side // NETWORK_MULTIPLE) * NETWORK_MULTIPLE


def face_network() -> bytes:
    """Return the shipped ONNX file with a dynamic input size and constant weights.

    Raises:
        EmotionError: The file is missing.
    """
    import onnx  # noqa: PLC0415 - only this detector needs it

    if not _FILE.is_file():
        raise EmotionError(f"detector `face`: {_FILE} is missing; {_REINSTALL}")
    model = onnx.load(_FILE)
    batch, _, rows, columns = model.graph.input[0].type.tensor_type.shape.dim
    batch.dim_value, rows.dim_param, columns.dim_param = 1, "height", "width"
    for output in model.graph.output:  # declared for 32 x 32; ONNX Runtime rejects other sizes
        output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    make_weights_constant(model)
    serialized: bytes = model.SerializeToString()
    return serialized
