"""Encode the frames that a clip stores."""

import io

from PIL import Image

_EPSILON = 1e-6  # rounding errors: 255.9999999 means 256


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
