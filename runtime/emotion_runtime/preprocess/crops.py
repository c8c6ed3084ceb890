"""Cut a window out of a frame and resize it to a model's input."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess.spec import PreprocessSpec
from emotion_runtime.preprocess.windows import Window, surroundings


def crop(
    image_rgb_uint8: NDArray[np.uint8],
    window: Window,
    spec: PreprocessSpec,
    *,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Cut a window out of a frame and resize it to the model's input.

    Uses Pillow's antialiased bicubic filter: the released weights were trained with it, and its fixed-point
    result is the same on every machine. The argument `box` equals resize-then-crop to within one grey level
    at half the cost.

    Args:
        image_rgb_uint8: Frame (H, W, 3) uint8 RGB.
        window: The part to cut out.
        spec: Preprocessing of the model.
        out: (S, S, 3) uint8, where the result is written to and which is returned; None for a new array.

    Returns:
        (S, S, 3) uint8 RGB; pixels outside of the frame have the spec's mean colour.

    Raises:
        EmotionError: The frame is not (H, W, 3) uint8.
    """
    if image_rgb_uint8.ndim != 3 or image_rgb_uint8.shape[2] != 3 or image_rgb_uint8.dtype != np.uint8:
        raise EmotionError(
            f"image of shape {image_rgb_uint8.shape} and type {image_rgb_uint8.dtype}: "
            "expected (height, width, 3) uint8 RGB"
        )
    part = _whole_pixels(image_rgb_uint8, window, spec)
    if part is None:
        part = _resized(image_rgb_uint8, window, spec)
    elif out is None:
        return part.copy()  # the caller may write into its frame
    if out is None:
        return part
    out[...] = part
    return out


def _resized(image_rgb_uint8: NDArray[np.uint8], window: Window, spec: PreprocessSpec) -> NDArray[np.uint8]:
    # Pillow copies the array that it is given.
    cut, around = surroundings(image_rgb_uint8, window)
    image, box = Image.fromarray(np.ascontiguousarray(cut)), around.source
    outside = _outside(box, image.size)
    if any(outside):
        left, top, right, bottom = outside
        canvas = Image.new("RGB", (image.width + left + right, image.height + top + bottom), _mean(spec))
        canvas.paste(image, (left, top))
        image, box = canvas, (box[0] + left, box[1] + top, box[2] + left, box[3] + top)
    resized = image.resize((spec.size, spec.size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(resized)


def _whole_pixels(image: NDArray[np.uint8], window: Window, spec: PreprocessSpec) -> NDArray[np.uint8] | None:
    """Return a view of a window of whole pixels at scale 1, as resizing gives them; None for others."""
    x1, y1, x2, y2 = window.source
    left, top = round(x1), round(y1)
    if (left, top, left + spec.size, top + spec.size) != (x1, y1, x2, y2) or min(left, top) < 0:
        return None
    if left + spec.size > image.shape[1] or top + spec.size > image.shape[0]:
        return None
    return image[top : top + spec.size, left : left + spec.size]


def _outside(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return by how many whole pixels a box exceeds the left, top, right and bottom edge of an image."""
    edges = (-box[0], -box[1], box[2] - size[0], box[3] - size[1])
    # A corner of the scaled frame may exceed it by a rounding error; that needs no border.
    left, top, right, bottom = (math.ceil(edge) if edge > 1e-3 else 0 for edge in edges)
    return left, top, right, bottom


def _mean(spec: PreprocessSpec) -> tuple[int, int, int]:
    red, green, blue = (round(255 * value) for value in spec.mean)
    return red, green, blue
