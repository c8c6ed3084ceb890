"""Conditions under which a face is seen: how the head is held, seen, boxed or covered."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_train.scenes.camera import Camera, with_gamma
from emotion_train.scenes.people import Occluder
from emotion_train.scenes.views import Condition, View, boxed, seen_by, shrunk


def _either(row: int, first: float, second: float) -> float:
    """Return one of two values, always the same one for a face."""
    return first if row % 2 else second


def tilted(degrees: float) -> Condition:
    """Return a condition in which the head is tilted to one of both sides."""
    return Condition(person=lambda person: replace(person, tilt=_either(person.face, degrees, -degrees)))


def covered(*occluders: Occluder) -> Condition:
    """Return a condition in which a part of the face is behind something."""
    return Condition(person=lambda person: replace(person, worn=occluders))


def _color(red: float, green: float, blue: float) -> NDArray[np.float32]:
    return np.array((red, green, blue), np.float32)


_GREY, _BLACK = _color(128, 128, 128), _color(18, 18, 20)
_BROWN, _PALE_BLUE = _color(60, 42, 30), _color(170, 200, 220)
COVERED: Final[Mapping[str, Occluder]] = {  # halves of a face
    "lower": Occluder(0.0, 0.4, 0.55, 0.4, _GREY),
    "upper": Occluder(0.0, -0.4, 0.55, 0.4, _GREY),
    "left": Occluder(-0.4, 0.0, 0.4, 0.6, _GREY),
    "right": Occluder(0.4, 0.0, 0.4, 0.6, _GREY),
}
_SUNGLASSES = (
    Occluder(-0.17, -0.12, 0.14, 0.11, _BLACK),
    Occluder(0.17, -0.12, 0.14, 0.11, _BLACK),
    Occluder(0.0, -0.15, 0.2, 0.015, _BLACK),
)
_MASK = (Occluder(0.0, 0.3, 0.37, 0.25, _PALE_BLUE),)
_BEARD = (
    Occluder(0.0, 0.16, 0.17, 0.03, _BROWN, 0.75),
    Occluder(0.0, 0.39, 0.24, 0.12, _BROWN, 0.75),
    Occluder(-0.32, 0.24, 0.09, 0.2, _BROWN, 0.75),
    Occluder(0.32, 0.24, 0.09, 0.2, _BROWN, 0.75),
)


def _mirrored(view: View, _: int) -> View:
    x1, y1, x2, y2 = view.box
    width = view.image.shape[1]
    return View(np.ascontiguousarray(view.image[:, ::-1]), (width - x2, y1, width - x1, y2))


def _grey_equalised(view: View, _: int) -> View:
    equal = cv2.equalizeHist(cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY))
    return View(np.asarray(cv2.cvtColor(equal, cv2.COLOR_GRAY2RGB), np.uint8), view.box)


def _gamma(view: View, row: int) -> View:
    changed = with_gamma(view.image.astype(np.float32), _either(row, 0.6, 1.7))
    return View(np.asarray(changed, np.uint8), view.box)


# Conditions by the name that reports print.
CONDITIONS: Final[Mapping[str, Condition]] = MappingProxyType(
    {
        **{f"tilt {degrees} degrees": tilted(degrees) for degrees in (10, 20, 30, 45)},
        "head of 30 px": shrunk(30),
        "head of 20 px": shrunk(20),
        "blur, sigma 4 px": seen_by(Camera(blur=4.0)),
        "box x 1.25": boxed(scale=1.25),
        "box x 0.8": boxed(scale=0.8),
        "box shifted 10 %": boxed(shift=0.1),
        "mirror image": Condition(view=_mirrored),
        "grey": seen_by(Camera(grey=True)),
        "grey, equalised": Condition(view=_grey_equalised),
        "brightness 160 %": seen_by(Camera(gain=(1.6, 1.6, 1.6))),
        "gamma 0.6 or 1.7": Condition(view=_gamma),
        "JPEG, quality 20": seen_by(Camera(jpeg=20)),
        **{f"{side} half covered": covered(occluder) for side, occluder in COVERED.items()},
        "sunglasses": covered(*_SUNGLASSES),
        "mask": covered(*_MASK),
        "beard": covered(*_BEARD),
    }
)
HALVES: Final = tuple(f"{side} half covered" for side in COVERED)
