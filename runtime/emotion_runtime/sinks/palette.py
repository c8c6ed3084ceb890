"""One colour for every emotion, the same everywhere an emotion is drawn."""

import colorsys
import zlib

Color = tuple[int, int, int]  # BGR

INK: Color = (28, 22, 18)  # plates and dark text
PAPER: Color = (244, 242, 240)  # light text
MUTED: Color = (196, 190, 184)  # what is not known, or no longer

_KNOWN: dict[str, Color] = {
    "anger": (72, 72, 232),  # red
    "disgust": (92, 176, 96),  # green
    "fear": (222, 112, 164),  # violet
    "happiness": (48, 192, 250),  # amber
    "sadness": (240, 144, 72),  # blue
    "surprise": (208, 208, 56),  # turquoise
    "neutral": (186, 178, 168),  # grey
}


def color_of(label: str) -> Color:
    """BGR of an emotion. One that is not of the seven gets a hue of its own, the same in every run."""
    known = _KNOWN.get(label)
    if known is not None:
        return known
    hue = zlib.crc32(label.encode()) / 2**32
    red, green, blue = (round(255 * value) for value in colorsys.hsv_to_rgb(hue, 0.55, 0.92))
    return blue, green, red


def text_on(background: Color) -> Color:
    """The text colour, dark or light, that reads better on a background. Source: ITU-R BT.601 luma."""
    blue, green, red = background
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 125 else PAPER
