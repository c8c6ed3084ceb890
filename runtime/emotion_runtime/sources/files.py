"""Find the files that a folder or a pattern stands for."""

import glob
import re
from pathlib import Path

from emotion_runtime.errors import EmotionError
from emotion_runtime.media.images import IMAGE_SUFFIXES, MOTION_JPEG_SUFFIXES

VIDEO_SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mts",
    ".m2ts",
    ".wmv",
    ".flv",
    ".3gp",
    ".ogv",
    ".mxf",
    ".vob",
    *MOTION_JPEG_SUFFIXES,
    ".gif",
    ".apng",
)


def expand(uri: str | Path) -> list[Path]:
    """Return the photos and videos of a folder or a pattern such as `*.jpg`, in natural order (2 before 10).

    Of a folder these are the files in it, known by their suffixes and not hidden, without those of
    subfolders. Of a pattern they are all files that match; `**` matches subfolders, too. An existing file
    stands for itself, even if its name looks like a pattern.

    Raises:
        EmotionError: There is no such file, or none in the folder.
    """
    text = str(uri)
    path = Path(text)
    if path.is_dir():
        found = [
            file
            for file in path.iterdir()
            if file.suffix.lower() in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES) and not file.name.startswith(".")
        ]
        missing = f"source {text}: no photo or video in the folder; give a folder of them, or a file"
    elif path.exists() or not is_pattern(text):
        return [path]
    else:
        found = [Path(name) for name in glob.glob(text, recursive=True)]  # noqa: PTH207 - also of an absolute path
        missing = f"source {text}: no file matches; check the path, and put the pattern in quotes"
    files = sorted((file for file in found if file.is_file()), key=_natural)
    if not files:
        raise EmotionError(missing)
    return files


def is_many(text: str) -> bool:
    """Return whether a source is a folder or a pattern, and not the name of a file."""
    return Path(text).is_dir() or is_pattern(text)


def is_pattern(text: str) -> bool:
    """Return whether a source is a pattern of file names, and not the name of a file."""
    return glob.has_magic(text) and not Path(text).exists()


def _natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sort key by which frame2 comes before frame10."""
    parts = re.findall(r"(\d+)|(\D+)", str(path))
    return [(0, int(digits), "") if digits else (1, 0, text.lower()) for digits, text in parts], str(path)
