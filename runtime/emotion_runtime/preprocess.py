"""Turn a frame and a person's box into the input of the frame encoder: a square crop and patch weights.

This is the only module that crops, resizes or turns boxes into patch weights. Training, export and runtime
all import it, so a model gets the same input in use as in training.

The subject's mask never exists as an image: the encoder only needs the covered fraction of each patch
(subject-aware prompting, paper Sec. 3.3, in the soft form of the released weights).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emotion_runtime.errors import EmotionError

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # the authors trained with these instead of CLIP's own
IMAGENET_STD = (0.229, 0.224, 0.225)

MAX_SIDE = 8192  # pixels; encoders have inputs of 112 to 448
MAX_SUBJECT_SCALE = 16.0  # head widths; a person and what is around them are in 8
MIN_STD = 0.001  # pixel values are divided by it

# A box that is taller than this many widths shows a body, not a head; its window is placed on the head.
BODY_ASPECT = 1.5
# Width of the head in a body box, as a fraction of the box's width (shoulders are about 2 heads wide).
HEAD_OF_BODY = 0.55


class PreprocessSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How images are prepared for a model. It is stored in checkpoints and bundles and must match on loading.

    Attributes:
        size: Side S of the square input, in pixels.
        patch: Side of a patch, in pixels; S is a multiple of it.
        window: "center" is the paper's protocol (short side scaled to `short_side`, centre crop of S);
            "subject" is a square window that contains the person.
        short_side: Length to which the frame's short side is scaled for a centre crop, in pixels.
        subject_scale: Side of a subject window in head widths (1.8: the head fills a bit over half of it).
            None: the same fraction of the frame's short side as the centre crop, moved to the person.
        mean: RGB mean of pixel values in [0, 1].
        std: RGB standard deviation of pixel values in [0, 1].
        beyond_frame: Whether a subject window larger than the frame keeps its side; the part outside of the
            frame is filled with the mean colour. False: the window shrinks to the frame's short side, which
            shows a head that fills the frame larger than the heads in training.

    Raises:
        EmotionError: The sizes contradict each other.
    """

    size: int = 224
    patch: int = 32
    window: Literal["center", "subject"] = "center"
    short_side: int = 256
    subject_scale: float | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    beyond_frame: bool = False

    def __post_init__(self) -> None:
        if self.patch <= 0 or self.size <= 0 or self.size % self.patch:
            raise EmotionError(
                f"preprocess spec: size {self.size} must be a positive multiple of patch {self.patch}"
            )
        if self.short_side < self.size:
            raise EmotionError(
                f"preprocess spec: short_side {self.short_side} must be at least size {self.size}"
            )
        if self.short_side > MAX_SIDE:
            raise EmotionError(
                f"preprocess spec: short_side {self.short_side} must be at most {MAX_SIDE} pixels"
            )
        # A window beyond the frame is filled, which takes memory and time as the square of its side.
        if self.subject_scale is not None and not 1 <= self.subject_scale <= MAX_SUBJECT_SCALE:
            raise EmotionError(
                f"preprocess spec: subject_scale {self.subject_scale} must be from 1 to {MAX_SUBJECT_SCALE} "
                "head widths"
            )
        if not all(0 <= value <= 1 for value in self.mean):
            raise EmotionError(f"preprocess spec: mean {list(self.mean)} must be 3 numbers from 0 to 1")
        if not all(MIN_STD <= value <= 1 for value in self.std):
            raise EmotionError(f"preprocess spec: std {list(self.std)} must be 3 numbers from {MIN_STD} to 1")

    @property
    def side_patches(self) -> int:
        """Number of patches along one side."""
        return self.size // self.patch

    @property
    def patches(self) -> int:
        """Number of patches, G."""
        return self.side_patches**2


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


def patch_weights(box_xyxy: Sequence[float], window: Window, spec: PreprocessSpec) -> NDArray[np.float32]:
    """Return the fraction of each patch that the person's box covers.

    The box is widened to whole input pixels (floor, ceil) and clipped to the window, like the official masks;
    an empty intersection gives zeros. Source: paper Sec. 3.3 (SAP), soft form.

    Args:
        box_xyxy: (x1, y1, x2, y2) in frame pixels.
        window: The window that the person is seen in.
        spec: Preprocessing of the model.

    Returns:
        (G,) float32 in [0, 1], row by row.
    """
    x1, y1, x2, y2 = box_xyxy
    across = _covered(x1 * window.scale - window.left, x2 * window.scale - window.left, spec)
    down = _covered(y1 * window.scale - window.top, y2 * window.scale - window.top, spec)
    return np.outer(down, across).ravel().astype(np.float32)


def union_patch_weights(
    boxes_xyxy: Sequence[Sequence[float]], window: Window, spec: PreprocessSpec
) -> NDArray[np.float32]:
    """Return the fraction of each patch that several persons' boxes cover together, as the authors trained.

    Args:
        boxes_xyxy: Any number of (x1, y1, x2, y2) in frame pixels, each widened and clipped as in
            `patch_weights`.
        window: The window that the persons are seen in.
        spec: Preprocessing of the model.

    Returns:
        (G,) float32 in [0, 1], row by row; zeros without a box.
    """
    if len(boxes_xyxy) == 1:
        return patch_weights(boxes_xyxy[0], window, spec)
    covered = np.zeros((spec.size, spec.size), np.float32)
    for x1, y1, x2, y2 in boxes_xyxy:
        left, right = _pixels(x1 * window.scale - window.left, x2 * window.scale - window.left, spec)
        top, bottom = _pixels(y1 * window.scale - window.top, y2 * window.scale - window.top, spec)
        covered[top:bottom, left:right] = 1
    # Sums over patches as matrix products: exact for whole numbers, and faster than a mean over axes.
    members = np.repeat(np.eye(spec.side_patches, dtype=np.float32), spec.patch, axis=1)
    fractions = (members @ covered @ members.T).ravel() / spec.patch**2
    return fractions.astype(np.float32)


def _pixels(start: float, stop: float, spec: PreprocessSpec) -> tuple[int, int]:
    """Whole input pixels from start to stop, inside the window."""
    return min(max(math.floor(start), 0), spec.size), min(max(math.ceil(stop), 0), spec.size)


def _covered(start: float, stop: float, spec: PreprocessSpec) -> list[float]:
    """Return the covered fraction of each patch along one axis; start and stop are in input pixels."""
    low, high = _pixels(start, stop, spec)
    # In plain Python: for so few numbers, arrays would take four times as long.
    edges = range(0, spec.size, spec.patch)
    return [max(min(high, edge + spec.patch) - max(low, edge), 0) / spec.patch for edge in edges]


def _scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return the size (height, width) in whole pixels of a frame whose short side becomes `short_side`."""
    if width <= height:
        return int(short_side * height / width), short_side
    return short_side, int(short_side * width / height)
