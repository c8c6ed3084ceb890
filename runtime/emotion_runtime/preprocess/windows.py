"""Choose the square of a frame that a model sees: the middle of the frame, or a square around a person."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.preprocess.spec import PreprocessSpec

# A box that is taller than this many widths shows a body, not a head; its window is placed on the head.
BODY_ASPECT = 1.5
# Width of the head in a body box, as a fraction of the box's width (shoulders are about 2 heads wide).
HEAD_OF_BODY = 0.55


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of the frame that becomes the S x S input.

    Attributes:
        scale: Input pixels per frame pixel.
        left: Left edge of the rectangle on the *scaled* frame.
        top: Top edge of the rectangle on the *scaled* frame.
        source: The same rectangle in frame pixels (x1, y1, x2, y2), for Pillow's argument `box`.
    """

    scale: float
    left: float
    top: float
    source: tuple[float, float, float, float]


def center_window(height: int, width: int, spec: PreprocessSpec) -> Window:
    """Return the window of the paper's evaluation: short side scaled to `spec.short_side`, centre crop."""
    return window_at(height, width, spec, across=0.5, down=0.5)


def window_at(height: int, width: int, spec: PreprocessSpec, *, across: float, down: float) -> Window:
    """Return a window of side S of the frame whose short side is scaled to `spec.short_side`.

    The scaled frame is rounded to whole pixels first, as in resize-then-crop; without the rounding the crop
    would be a different image.

    Args:
        height: Height of the frame in pixels.
        width: Width of the frame in pixels.
        spec: Preprocessing of the model.
        across: Horizontal position, from 0 (left) to 1 (right); the authors train with random ones.
        down: Vertical position, from 0 (top) to 1 (bottom).
    """
    scaled_h, scaled_w = _scaled_size(height, width, spec.short_side)
    left = round(across * (scaled_w - spec.size))
    top = round(down * (scaled_h - spec.size))
    source = (
        left * width / scaled_w,
        top * height / scaled_h,
        (left + spec.size) * width / scaled_w,
        (top + spec.size) * height / scaled_h,
    )
    # One scale for both axes, as in the official code that turns boxes into masks.
    return Window(1 / min(width / scaled_w, height / scaled_h), left, top, source)


def subject_window(box: Sequence[float], height: int, width: int, spec: PreprocessSpec) -> Window:
    """Return a square window that contains the person, moved to stay inside the frame.

    The side is `spec.subject_scale` head widths, or the centre crop's fraction of the short side; at least 16
    pixels, and at most the frame's short side unless `spec.beyond_frame`. Sides are whole pixels.

    Args:
        box: (x1, y1, x2, y2) in frame pixels, of a head or of a whole body; its aspect ratio tells which.
        height: Height of the frame in pixels.
        width: Width of the frame in pixels.
        spec: Preprocessing of the model.
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    box_w, box_h = max(x2 - x1, 1.0), max(y2 - y1, 1.0)
    center_x, center_y = (x1 + x2) / 2, (y1 + y2) / 2
    if spec.subject_scale is None:
        wanted = max(min(height, width) * spec.size / spec.short_side, box_w, box_h)
    elif box_h > BODY_ASPECT * box_w:
        wanted = spec.subject_scale * HEAD_OF_BODY * box_w
        center_y = y1 + 0.4 * wanted  # the head is at the top of a body box: leave some space above it
    else:
        wanted = spec.subject_scale * math.sqrt(box_w * box_h)
    side = round(max(wanted, 16))
    if not spec.beyond_frame:
        side = min(side, height, width)
    left = _place(center_x, side, width)
    top = _place(center_y, side, height)
    scale = spec.size / side
    return Window(scale, left * scale, top * scale, (left, top, left + side, top + side))


def _place(center: float, side: int, length: int) -> int:
    """Return the start of a window on one axis: inside the frame, or centred if the frame is too small."""
    if side > length:
        return (length - side) // 2
    return min(max(round(center - side / 2), 0), length - side)


def _scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return the size (height, width) in whole pixels of a frame whose short side becomes `short_side`."""
    if width <= height:
        return int(short_side * height / width), short_side
    return short_side, int(short_side * width / height)


def surroundings(image: NDArray[np.uint8], window: Window) -> tuple[NDArray[np.uint8], Window]:
    """Return the part of an image (H, W, 3) that a crop depends on, and the window in this part.

    A margin covers the reach of the bicubic kernel: 2 source pixels, more when shrinking.
    """
    x1, y1, x2, y2 = window.source
    margin = math.ceil(2 * max(1.0, 1 / window.scale)) + 1
    height, width = image.shape[:2]
    left, top = max(math.floor(x1) - margin, 0), max(math.floor(y1) - margin, 0)
    cut = image[top : min(math.ceil(y2) + margin, height), left : min(math.ceil(x2) + margin, width)]
    return cut, Window(
        window.scale,
        window.left - left * window.scale,
        window.top - top * window.scale,
        (x1 - left, y1 - top, x2 - left, y2 - top),
    )
