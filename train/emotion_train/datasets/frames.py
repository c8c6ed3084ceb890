"""Choose the frames of a clip and find their files."""

import re
from pathlib import Path

import numpy as np

from emotion_runtime.media import images as media
from emotion_train.datasets.rows import BadRow

CLIP_FRAMES = 8  # T of the paper


def uniform(first: int, last: int, count: int = CLIP_FRAMES) -> list[int]:
    """Return `count` integers spread evenly from `first` to `last`, both included; they may repeat.

    They are rounded down, as by `np.linspace` for integers and so by the authors' readers: 0 .. 9 gives
    0 1 2 3 5 6 7 9. Rounding to the nearest integer would choose other frames than the published results.
    """
    spread: list[int] = np.linspace(first, last, count, dtype=np.int64).tolist()
    return spread


def is_image(path: Path) -> bool:
    """Return whether a file is an image, by its suffix."""
    return path.suffix.lower() in media.IMAGE_SUFFIXES


def frame_number(path: Path) -> int | None:
    """Return the last number in a file's name, 12 for `image_00012.jpg`; None without a number."""
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else None


def numbered_frames(folder: Path) -> list[tuple[int, Path]]:
    """Return (number, file) for every numbered image in a folder, sorted by number.

    Raises:
        BadRow: The folder does not exist, or has no numbered image.
    """
    if not folder.is_dir():
        raise BadRow("no folder of frames", folder)
    files = [(frame_number(path), path) for path in folder.iterdir() if is_image(path)]
    frames = sorted((number, path) for number, path in files if number is not None)
    if not frames:
        raise BadRow("no frames in the folder", folder)
    return frames


def clip_frames(folder: Path) -> list[tuple[int, Path]]:
    """Return (number, file) for eight images, spread evenly over all in a folder.

    Raises:
        BadRow: The folder does not exist, or has no numbered image.
    """
    frames = numbered_frames(folder)
    return [frames[position] for position in uniform(0, len(frames) - 1)]


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of an image file in pixels, upright; usually only its header is read.

    Raises:
        BadRow: The file is missing, not an image, or does not state the range of its values.
    """
    if not path.is_file():
        raise BadRow("missing frame", path)
    try:
        return media.image_size(path)
    except media.ImageError as error:
        raise BadRow(error.reason if error.unscaled else "unreadable frame", path) from error
