"""Encode and decode the frames that a clip stores."""

import io
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

_EPSILON = 1e-6  # rounding errors: 255.9999999 means 256
# OpenCV decodes to RGB since 4.11; before, a second pass over the image swaps the colours.
_IN_RGB: int | None = getattr(cv2, "IMREAD_COLOR_RGB", None)


def resized_jpeg(image: Image.Image, *, short_side: int, quality: int) -> tuple[bytes, tuple[int, int]]:
    """Resize an image with Pillow's bicubic filter and encode it as JPEG.

    A smaller image is enlarged, as it would be for the model. The long side is rounded down, as in
    `emotion_runtime.preprocess.center_window`.

    Args:
        image: The image.
        short_side: Length of the short side after resizing, pixels.
        quality: JPEG quality.

    Returns:
        The JPEG file and its (width, height).
    """
    width, height = image.size
    scale = short_side / min(width, height)
    size = (int(width * scale + _EPSILON), int(height * scale + _EPSILON))
    data = io.BytesIO()
    image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(data, "JPEG", quality=quality)
    return data.getvalue(), size


def decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG file; the pixels are those of Pillow (both use libjpeg-turbo), in less time.

    Args:
        data: The file. An orientation in its metadata is ignored, as by Pillow.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: The file is not an image, or is truncated.
    """
    try:
        flags = (_IN_RGB or cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION
        image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(" ".join(str(error).split())) from error
    if image is None:
        raise ValueError("OpenCV cannot decode it")
    rgb: NDArray[np.uint8] = image if _IN_RGB else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return rgb
