"""Which frames of a clip are looked at, and where they lie."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from emotion_train.datasets.rows import BadRow

CLIP_FRAMES = 8  # T of the paper

_IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def uniform(first: int, last: int, count: int = CLIP_FRAMES) -> list[int]:
    """`count` whole numbers spread over first .. last, both ends among them; they may repeat.

    Rounded down, as `np.linspace` does for whole numbers and the authors' readers with it: 0 .. 9 gives
    0 1 2 3 5 6 7 9. Rounding to the nearest would choose other frames than the published figures saw.
    """
    spread: list[int] = np.linspace(first, last, count, dtype=np.int64).tolist()
    return spread


def is_image(path: Path) -> bool:
    """Whether the file's name is that of a picture."""
    return path.suffix.lower() in _IMAGES


def frame_number(path: Path) -> int | None:
    """The last number in a file's name: 12 of `image_00012.jpg`; None without one."""
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else None


def numbered_frames(folder: Path) -> list[tuple[int, Path]]:
    """(number, file) of every picture in a folder, by number.

    Raises:
        BadRow: no such folder, or no numbered picture in it.

    """
    if not folder.is_dir():
        raise BadRow("no folder of frames")
    files = [(frame_number(path), path) for path in folder.iterdir() if is_image(path)]
    frames = sorted((number, path) for number, path in files if number is not None)
    if not frames:
        raise BadRow("no frames in the folder")
    return frames


def clip_frames(folder: Path) -> list[tuple[int, Path]]:
    """Eight (number, file), uniform over all pictures in a folder.

    Raises:
        BadRow: no such folder, or no numbered picture in it.

    """
    frames = numbered_frames(folder)
    return [frames[position] for position in uniform(0, len(frames) - 1)]


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of a picture file in pixels; only its header is read.

    Raises:
        BadRow: it is missing or no picture.

    """
    try:
        with Image.open(path) as picture:
            return picture.size
    except FileNotFoundError as error:
        raise BadRow("missing frame") from error
    except (OSError, Image.DecompressionBombError) as error:
        raise BadRow("unreadable frame") from error
