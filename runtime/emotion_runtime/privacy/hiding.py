"""Hide people in the images that leave the program."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.names import Blur
from emotion_runtime.privacy.regions import PeopleRegions
from emotion_runtime.types import Box, Detections, Frame, Track

CELLS = 3  # a hidden region keeps this many averages along its longer side, and nothing else
_LEVELS = 16  # and each of them is one of this many levels, so that many images together tell little more


@dataclass(slots=True)
class _SeenSource:
    """One source.

    Attributes:
        regions: Where its people are.
        size: Height and width of the latest image.
        index: Number of the latest frame in which people were detected.
        image: That image, with people hidden. None: it was not needed yet.
        boxes: What is hidden in it.
    """

    regions: PeopleRegions
    size: tuple[int, int] = (0, 0)
    index: int = -1
    image: NDArray[np.uint8] | None = None
    boxes: Sequence[Box] = ()


class PeopleHider:
    """Replaces people in images by a few blurred patches of colour.

    An image leaves only after people were detected in it: in place of one between two detections, the latest
    one with a detection leaves once more.

    Args:
        blur: What is hidden: "faces" or "persons".
    """

    def __init__(self, blur: Blur) -> None:
        self._blur = blur
        self._sources: dict[str, _SeenSource] = {}

    def see(self, frame: Frame, detections: Detections, expected: Sequence[Track]) -> None:
        """Take note of the people in a frame.

        Args:
            frame: A frame in which people were detected.
            detections: All detections, however weak.
            expected: People who were not detected, where they are expected to be.
        """
        source = self._sources.get(frame.source)
        if source is None or frame.still:
            source = self._sources[frame.source] = _SeenSource(PeopleRegions(self._blur))
        height, width = frame.image.shape[:2]
        if source.size not in ((height, width), (0, 0)):
            source.regions.rescale(width / source.size[1], height / source.size[0])
        source.size, source.index, source.image = (height, width), frame.index, None
        source.boxes = source.regions.update(detections, expected, frame.t)

    def hide(self, frame: Frame) -> Frame:
        """Return a frame with the image that may leave in its place. Call it for every frame, after `see`."""
        source = self._sources.get(frame.source)
        if source is None:  # nothing was detected in this source yet
            return replace(frame, image=np.zeros_like(frame.image))
        if source.index == frame.index and source.image is None:
            source.image = hidden(frame.image, source.boxes)
        image = np.zeros_like(frame.image) if source.image is None else source.image
        return replace(frame, image=image)

    def forget(self, source: str) -> None:
        """Drop the state of a source that ended."""
        self._sources.pop(source, None)


def hidden(image_bgr: NDArray[np.uint8], boxes: Sequence[Box]) -> NDArray[np.uint8]:
    """Return a copy of an image in which boxes are replaced by a few averages of their colours, blurred.

    What was in a box cannot be computed from it: at most `CELLS` x `CELLS` colours are left of it.

    Args:
        image_bgr: (H, W, 3) uint8 BGR.
        boxes: x1, y1, x2, y2 in pixels; they may reach beyond the image.
    """
    canvas = image_bgr.copy()
    height, width = canvas.shape[:2]
    for box in boxes:
        low = np.floor(np.clip(box[:2], 0, (width, height))).astype(int)
        high = np.ceil(np.clip(box[2:], 0, (width, height))).astype(int)
        part = canvas[low[1] : high[1], low[0] : high[0]]
        if part.size:
            # Of a box that is cut off by the edge, what is left has fewer cells.
            part[:] = _blurred(part, max(box[2] - box[0], box[3] - box[1]) / CELLS)
    return canvas


def _blurred(part: NDArray[np.uint8], cell: float) -> NDArray[np.uint8]:
    """Return averages over cells of about this many pixels, quantised, with smooth transitions."""
    rows, columns = part.shape[:2]
    cells = [min(max(round(side / cell), 1), side) for side in (columns, rows)]
    few = cv2.resize(part, cells, interpolation=cv2.INTER_AREA)
    step = 256 // _LEVELS
    few = few // step * step + step // 2
    return np.asarray(cv2.resize(few, (columns, rows), interpolation=cv2.INTER_LINEAR), np.uint8)
