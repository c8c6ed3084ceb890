"""One colour per emotion, the same wherever an emotion is drawn."""

import colorsys
import zlib

Color = tuple[int, int, int]  # BGR

INK: Color = (28, 22, 18)  # panels and dark text
PAPER: Color = (244, 242, 240)  # light text
QUIET: Color = (196, 190, 184)  # text that is less important
UNKNOWN: Color = (150, 140, 128)  # persons without a label: slate, unlike the colour of any emotion

_KNOWN: dict[str, Color] = {
    "anger": (72, 72, 232),  # red
    "disgust": (92, 176, 96),  # green
    "fear": (222, 112, 164),  # violet
    "happiness": (48, 192, 250),  # amber
    "sadness": (240, 144, 72),  # blue
    "surprise": (208, 208, 56),  # turquoise
    "neutral": (180, 216, 232),  # sand
}


def color_of(label: str) -> Color:
    """Return the BGR colour of an emotion. Labels other than the seven get a fixed hue of their own."""
    known = _KNOWN.get(label)
    if known is not None:
        return known
    hue = zlib.crc32(label.encode("utf-8", "replace")) / 2**32
    red, green, blue = (round(255 * value) for value in colorsys.hsv_to_rgb(hue, 0.55, 0.92))
    return blue, green, red


def text_on(background: Color) -> Color:
    """Return the dark or light text colour for a background. Source: luma of ITU-R BT.601."""
    blue, green, red = background
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 125 else PAPER
