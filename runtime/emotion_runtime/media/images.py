"""Photos: read as 8-bit colours, upright, whatever a file stores."""

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emotion_runtime.errors import EmotionError

IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".webp",
    ".tif",
    ".tiff",
    ".avif",
    ".jp2",
    ".ppm",
    ".pgm",
    ".heic",
    ".heif",
)
MOTION_JPEG_SUFFIXES = (".mjpeg", ".mjpg")
# Pillow's name of a format by the bytes that such a file begins with. Asking Pillow itself would be slow, and
# it takes some videos (MPEG) and formats without a signature for images.
_SIGNATURES = {
    rb"\xff\xd8\xff": "JPEG",
    rb"\x89PNG\r\n\x1a\n": "PNG",
    rb"RIFF....WEBP": "WEBP",
    rb"GIF8[79]a": "GIF",
    rb"BM....\0\0\0\0": "BMP",
    rb"II[*+]\0|MM\0[*+]": "TIFF",
    rb"....ftypavi[fs]": "AVIF",
    rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51": "JPEG2000",
    rb"P[1-6]\s": "PPM",
}
_SIGNATURE_BYTES = 16
_ANIMATED_FORMATS = {"GIF", "WEBP", "PNG", "AVIF"}  # a TIFF or MPO of several images is a photo
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_RANGE_FORMATS = {"PNG", "PPM"}  # Pillow opens their 16-bit images as 32-bit integers from 0 to 65535
_LEAST_MAXIMUM = 1 << 14  # of 16-bit values; below, they are values of fewer bits, or distances
_PAPER = (255, 255, 255, 255)  # RGBA, shown through transparent parts


# For corrupt files Pillow's decoders also raise other errors than OSError; KeyError: it lacks a decoder.
# ImportError: where ultralytics is loaded, its `Image.open` then imports pi_heif.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, KeyError, ImportError, Image.DecompressionBombError)


class ImageError(EmotionError):
    """An image cannot be used.

    Attributes:
        reason: The reason in a few words, without the path.
        unscaled: The file is intact, but does not state the range of its values.
    """

    def __init__(self, path: Path | str, reason: str, fix: str, *, unscaled: bool = False) -> None:
        super().__init__(f"image {path}: {reason}; {fix}")
        self.reason = reason
        self.unscaled = unscaled


def is_image(path: Path | str) -> bool:
    """Return whether a file is a photo, by its content; an animated GIF, WebP or PNG is a video.

    Motion JPEG without a container is a row of photos that only its suffix tells from a single one. A file of
    another content is a photo if its suffix is that of one, so that reading it says what is wrong.
    """
    kind = image_format(path)
    if kind == "JPEG" and Path(path).suffix.lower() in MOTION_JPEG_SUFFIXES:
        return False
    if kind not in _ANIMATED_FORMATS:
        return bool(kind) or (Path(path).suffix.lower() in IMAGE_SUFFIXES and Path(path).is_file())
    try:
        with Image.open(path, formats=[kind]) as image:
            return not is_animated(image)
    except _DECODING_ERRORS:
        return True


def image_format(path: Path | str) -> str:
    """Return Pillow's name of the format of an image file, by its first bytes; "" for another file."""
    try:
        with Path(path).open("rb") as file:
            first = file.read(_SIGNATURE_BYTES)
    except OSError:
        return ""
    return next((kind for begin, kind in _SIGNATURES.items() if re.match(begin, first, re.DOTALL)), "")


def is_animated(image: Image.Image) -> bool:
    """Return whether an opened image is an animation, that is, a video."""
    return image.format in _ANIMATED_FORMATS and bool(getattr(image, "is_animated", False))


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """Read a photo, upright.

    The EXIF orientation is applied. 16-bit grey is scaled to 8 bits. Transparent parts become white. Of a
    file with several images, this is the first.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        ImageError: The file is missing, corrupt or no photo, or it does not state the range of its values
            (floats, 32-bit integers, 12 bits stored in 16, distances).
    """
    return np.ascontiguousarray(read_rgb(path)[:, :, ::-1])


def read_rgb(path: Path | str) -> NDArray[np.uint8]:
    """Read a photo as `read_image` does, but return (H, W, 3) uint8 RGB."""
    try:
        with _opened(path) as image:
            return pixels(image, path)
    except _DECODING_ERRORS as error:
        raise _undecodable(path, error) from error


def pixels(image: Image.Image, name: Path | str) -> NDArray[np.uint8]:
    """Return the pixels of an opened photo, as `read_image` describes them, as (H, W, 3) uint8 RGB.

    Args:
        image: The photo, from any place.
        name: The photo, for messages.

    Raises:
        ImageError: It does not state the range of its values. Pillow's errors pass through.
    """
    turn = _TURNS.get(_orientation(image))
    flat = _to_rgb(image, name)
    return np.array(flat.transpose(turn) if turn is not None else flat)


def image_size(path: Path | str) -> tuple[int, int]:
    """Return (width, height) of a photo in pixels, upright. Usually only the header is read.

    Raises:
        ImageError: See `read_image`, except that pixels may still turn out to be corrupt.
    """
    try:
        with _opened(path) as image:
            if image.mode == "F" or image.mode.startswith("I"):
                _to_rgb(image, path)  # the range of the values is only known from the pixels
            if image.format == "TIFF" and image.tag_v2.get(_ORIENTATION, 1) >= 5:
                image.load()  # earlier releases of Pillow know the upright size only then
            width, height = image.size
            return (height, width) if _orientation(image) >= 5 else (width, height)
    except _DECODING_ERRORS as error:
        raise _undecodable(path, error) from error


def opaque(image: Image.Image) -> Image.Image:
    """Convert an image of 8 bits to RGB; transparent parts become white."""
    if "A" in image.mode.upper() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, _PAPER), rgba).convert("RGB")
    return image.convert("RGB")


def _opened(path: Path | str) -> Any:
    kind = image_format(path)
    if not kind and Path(path).is_file():
        raise ValueError("not an image")
    return Image.open(path, formats=[kind] if kind else None)


def _undecodable(path: Path | str, error: Exception) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError(path, "no such file", "check the path")
    if isinstance(error, IsADirectoryError):
        return ImageError(path, "is a folder", "give the photos in it")
    if isinstance(error, PermissionError):
        return ImageError(path, "no permission to read it", f"run `chmod +r {path}`")
    if Path(path).suffix.lower() in (".heic", ".heif"):
        return ImageError(path, "HEIC is not supported", "convert it to JPEG")
    # Pillow repeats the path as Python would write it.
    detail = re.sub(r"\s*'.*'$|\s+", " ", str(error)).strip()
    named = Path(path).suffix.lower() in IMAGE_SUFFIXES
    return ImageError(
        path, f"cannot be decoded ({detail})", "get an intact copy of it" if named else "give a photo"
    )


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if there is none, or Pillow applies it by itself."""
    if image.format == "TIFF":
        return 1
    # For a PNG without EXIF data in front of its pixels, Pillow would decode the pixels to look behind them.
    if image.format == "PNG" and not {"exif", "Raw profile type exif"} & set(image.info):
        return 1
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, struct.error):
        return 1
    return value if value in _TURNS else 1


def _to_rgb(image: Image.Image, path: Path | str) -> Image.Image:
    mode = image.mode
    if mode.startswith("I;16") or (mode == "I" and image.format in _RANGE_FORMATS):
        values = np.asarray(image)
        largest = int(values.max())
        # A PPM file states its largest value, and Pillow scales by it; others hold any number of bits.
        if 0 < largest < _LEAST_MAXIMUM and image.format != "PPM":
            raise ImageError(
                path,
                f"16-bit values of unknown range (the largest is below {_LEAST_MAXIMUM})",
                "scale them to 0..65535, or save 8 bits",
                unscaled=True,
            )
        return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")
    if mode in ("I", "F"):
        kind = "32-bit integers" if mode == "I" else "floating-point values"
        fix = "scale them to 0..255 and save 8 bits"
        raise ImageError(path, f"{kind} of unknown range", fix, unscaled=True)
    return opaque(image)
