"""Render text with a scalable font, alike with every version of OpenCV. Each text is rendered once.

The font is DejaVu Sans, which Matplotlib brings; it covers Latin, Greek and Cyrillic. Labels in other scripts
are rendered with OpenCV 5's own font, or with a font of the system that has their characters.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

Mask = NDArray[np.uint8]  # (H, W) coverage, 0 to 255

_BASELINE = 0.92  # of the em, from the top of a line
_LINE = 1.18  # height of a line, in em
_NO_CHARACTER = "\U0010fffd"  # private, so every font draws its sign for missing characters
_MOST_FONTS = 400  # fonts of the system that are looked at
_PREFERRED = ("noto", "cjk", "wqy", "droid", "unicode", "pingfang", "yahei", "gothic", "arial", "freesans")
_Renderer = Callable[[str, int], Mask]


def line_height(pixels: int) -> int:
    """Return the height of a line of text of this size, in pixels."""
    return round(_LINE * pixels)


@lru_cache(maxsize=4096)
def render(text: str, pixels: int) -> Mask:
    """Return the coverage of a line of text, (line_height(pixels), width) uint8, which must not be changed.

    Args:
        text: One line in any script.
        pixels: Size of the font: its em, about 1.4 times the height of a capital letter.
    """
    return _renderer("".join(sorted(set(text))))(text, pixels)


def width(text: str, pixels: int) -> int:
    """Return the width of a text in pixels."""
    return int(render(text, pixels).shape[1])


@lru_cache(maxsize=1024)
def _renderer(characters: str) -> _Renderer:
    """Return what renders text of these characters: the first font that has them all."""
    for path in _own_fonts():
        if _has(_font(path, 16), characters):
            return _pillow(path)
    if _opencv_has(characters):
        return _render_with_opencv
    for path in _system_fonts():
        with suppress(OSError):  # not a font that FreeType can read
            if _has(_font(path, 16), characters):
                return _pillow(path)
    logging.getLogger(__name__).warning(
        "no font has all characters of %r, which are drawn as empty boxes; install a font of its script, for "
        "example the package fonts-noto-cjk",
        characters,
    )
    return _pillow(next(_own_fonts()))


def _own_fonts() -> Iterator[str]:
    """Yield the fonts that are installed with the project; "" is the one inside Pillow."""
    spec = find_spec("matplotlib")  # finds the folder without importing the package
    if spec and spec.origin:
        path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.is_file():
            yield str(path)
    yield ""


@lru_cache(maxsize=1)
def _system_fonts() -> list[str]:
    folders = [
        "/usr/share/fonts",
        "/usr/local/share/fonts",
        "~/.local/share/fonts",
        "~/.fonts",
        "/System/Library/Fonts",
        "/Library/Fonts",
    ]
    if sys.platform == "win32":
        folders = [os.environ.get("WINDIR", "C:\\Windows") + "\\Fonts"]
    found = [
        str(path)
        for folder in folders
        for path in Path(folder).expanduser().rglob("*")
        if path.suffix.lower() in (".ttf", ".ttc", ".otf")
    ]
    # Fonts with many scripts first, then by name, so that every run on a machine chooses the same.
    found.sort(key=lambda path: (not any(part in Path(path).name.lower() for part in _PREFERRED), path))
    return found[:_MOST_FONTS]


@lru_cache(maxsize=64)
def _font(path: str, pixels: int) -> Any:
    return ImageFont.truetype(path, pixels) if path else ImageFont.load_default(pixels)


def _has(font: Any, characters: str) -> bool:
    missing = bytes(font.getmask(_NO_CHARACTER))
    return all(character.isspace() or bytes(font.getmask(character)) != missing for character in characters)


def _pillow(path: str) -> _Renderer:
    def render_with_pillow(text: str, pixels: int) -> Mask:
        font = _font(path, pixels)
        image, (left, top) = font.getmask2(text, mode="L", anchor="ls")
        glyphs = np.asarray(image, np.uint8).reshape(image.size[::-1])  # (h, w)
        canvas = np.zeros(
            (line_height(pixels), max(round(font.getlength(text)), glyphs.shape[1] + left)), np.uint8
        )
        _paste(canvas, glyphs, round(_BASELINE * pixels) + top, left)
        canvas.setflags(write=False)
        return canvas

    return render_with_pillow


def _paste(canvas: Mask, glyphs: Mask, top: int, left: int) -> None:
    """Copy glyphs onto the canvas; what reaches beyond its edges is cut off."""
    first_row, first_column = max(-top, 0), max(-left, 0)
    part = glyphs[first_row:, first_column:]
    top, left = max(top, 0), max(left, 0)
    target = canvas[top : top + part.shape[0], left : left + part.shape[1]]
    target[:] = part[: target.shape[0], : target.shape[1]]


def _opencv_has(characters: str) -> bool:
    if not hasattr(cv2, "FontFace"):  # OpenCV 4 draws strokes, of ASCII only
        return False
    missing = _render_with_opencv(_NO_CHARACTER, 16)
    return all(
        character.isspace() or not np.array_equal(_render_with_opencv(character, 16), missing)
        for character in characters
    )


def _render_with_opencv(text: str, pixels: int) -> Mask:
    cv: Any = cv2  # the signatures of OpenCV 5
    canvas = np.zeros((line_height(pixels), (2 * len(text) + 1) * pixels), np.uint8)
    end, canvas = cv.putText(canvas, text, (0, round(_BASELINE * pixels)), 255, cv.FontFace("sans"), pixels)
    canvas = np.ascontiguousarray(canvas[:, : max(end[0], 1)])
    canvas.setflags(write=False)
    return canvas
