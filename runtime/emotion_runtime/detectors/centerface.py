"""CenterFace, the default detector: finds faces and returns heads.

The network is the file centerface.onnx beside this module (MIT), so a fresh install needs no download. It is
the published file after `take_frames`, for frames of any size: reading that one needs the package onnx, and
would take a start a tenth of a second.
Source: Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019.
"""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.detectors.boxes import clip, non_maximum_suppression, to_frame
from emotion_runtime.detectors.graph import DetectorGraph, Size
from emotion_runtime.detectors.network import CpuNetwork, NetworkDetector, Outputs, Placement
from emotion_runtime.errors import EmotionError
from emotion_runtime.types import Detections

SCORE = 0.3  # weak faces keep a track alive (ByteTrack's second stage)
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


class CenterFace(NetworkDetector):
    """Finds faces and returns heads. See `emotion_runtime.detectors.Detector`.

    Args:
        threads: Number of ONNX Runtime's threads. 0: as many as the encoders have.
        score: Minimum score of a face, in (0, 1). None: 0.3, and 0.5 for a new person.
        long_side: Long side in pixels to which images are resized. None: see `automatic_size`.
    """

    def __init__(self, *, threads: int = 0, score: float | None = None, long_side: int | None = None) -> None:
        graph = face_graph()
        super().__init__(graph, CpuNetwork(graph, fix=_REINSTALL, threads=threads), score, SCORE)
        self._long_side = long_side

    def prepare(self, image_bgr: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], Placement]:
        """Return the resized image, padded at the right and bottom to sides that are multiples of 32."""
        height, width = image_bgr.shape[:2]
        fit = (self._long_side or automatic_size(height, width)) / max(height, width)
        rows, columns = max(round(height * fit), 1), max(round(width * fit), 1)
        # Bilinear interpolation would skip pixels of a large image; at scale 1 this only copies.
        interpolation = cv2.INTER_AREA if fit <= 1 else cv2.INTER_CUBIC
        # Padded, so that the image keeps its aspect ratio.
        padded = np.zeros((_round_up(rows), _round_up(columns), 3), np.uint8)
        cv2.resize(image_bgr, (columns, rows), dst=padded[:rows, :columns], interpolation=interpolation)
        return padded, Placement(padded.shape[:2], (0, 0), (columns / width, rows / height))

    def decode(self, outputs: Outputs, placement: Placement, size: Size) -> Detections:
        """Return the heads in an image of `size` (height, width)."""
        heatmap, *others = outputs
        self.check_numbers(heatmap)
        with np.errstate(all="ignore"):  # of values that the next lines refuse
            boxes, scores, landmarks = decode(heatmap, *others, score=self.score)
        self.check_numbers(boxes, "boxes")
        self.check_numbers(landmarks, "landmarks")
        boxes, landmarks = (to_frame(each, placement.corner, placement.scale) for each in (boxes, landmarks))
        faces = Detections(boxes, scores, landmarks.reshape(-1, 5, 2))
        faces = non_maximum_suppression(faces, score=self.score, iou=IOU)
        heads = head_box(faces.boxes)
        return clip(replace(faces, boxes=heads, heads=heads), *size)


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
        heatmap: (1, h, w), probability that a face is centred in a cell.
        scale: (2, h, w), logarithm of height and width in cells.
        offset: (2, h, w), position of the centre within its cell, y and x.
        landmarks: (10, h, w), y and x of five points from the corner of the face box, in heights and widths
            of the box.
        score: Minimum score of a face.

    Returns:
        Boxes (N, 4), scores (N,) and landmarks (N, 10), x and y in turn, of the cells above `score`.
    """
    rows, columns = np.nonzero(heatmap[0] > score)
    size = np.exp(scale[:, rows, columns].T) * OUTPUT_STRIDE  # (N, 2) height, width
    shift = offset[:, rows, columns].T  # (N, 2)
    cells = np.stack([rows, columns], axis=1).astype(np.float32)
    center = (cells + shift + 0.5) * OUTPUT_STRIDE  # (N, 2) y, x
    low, high = center - size / 2, center + size / 2
    boxes = np.concatenate([low[:, ::-1], high[:, ::-1]], axis=1)
    points = landmarks[:, rows, columns].T.reshape(-1, 5, 2) * size[:, None] + low[:, None]  # y, x
    points = points[:, :, ::-1].reshape(-1, 10)
    return boxes.astype(np.float32), heatmap[0, rows, columns], points.astype(np.float32)


def _round_up(side: int) -> int:
    return -(-side // NETWORK_MULTIPLE) * NETWORK_MULTIPLE


def face_graph() -> DetectorGraph:
    """Return the network of the shipped ONNX file, for frames of any size.

    Raises:
        EmotionError: The file is missing.
    """
    title = "detector `face`"
    if not _FILE.is_file():
        raise EmotionError(f"{title}: {_FILE} is missing; {_REINSTALL}")
    return DetectorGraph(title, "face", _FILE.read_bytes(), one_by_one=False)
