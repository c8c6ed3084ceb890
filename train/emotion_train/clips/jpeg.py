"""How a frame is stored in a clip."""

import io

from PIL import Image

_EPSILON = 1e-6  # products of fractions: 255.9999999 is 256


def resized_jpeg(picture: Image.Image, *, short_side: int, quality: int) -> tuple[bytes, tuple[int, int]]:
    """A picture as JPEG with the wanted short side, pixels, by Pillow's bicubic; and its (width, height).

    A smaller picture is enlarged, as it would be for the model. The long side is rounded down, as in
    `emotion_runtime.preprocess.center_window`.
    """
    width, height = picture.size
    scale = short_side / min(width, height)
    size = (int(width * scale + _EPSILON), int(height * scale + _EPSILON))
    data = io.BytesIO()
    picture.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(data, "JPEG", quality=quality)
    return data.getvalue(), size
