"""Views of one person that differ in a single condition: how the head is held, seen, boxed or covered.

The plain view shows one face, upright, on a rendered body, with a head of 160 px and the box that the
runtime's default detector would give, with that detector's noise. Every condition changes one thing in it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.types import Box
from emotion_train.scenes.batches import detected_head
from emotion_train.scenes.camera import Camera, RgbImage, apply_camera, with_gamma
from emotion_train.scenes.drawing import Scene, draw_scene, render
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.people import Occluder, RenderedPerson

HEAD_PX = 160  # width of the head's box in the plain view
FRAME_PX = 420  # side of the plain view
PLAIN = "plain"

Person = RenderedPerson


@dataclass(frozen=True, slots=True)
class View:
    """An image of one person and the box of the head in it.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        box: The head, in pixels of the image.
    """

    image: RgbImage
    box: Box


@dataclass(frozen=True, slots=True)
class Condition:
    """A change of the plain view.

    Attributes:
        person: Changes the person before the view is rendered; None leaves it as it is.
        view: Changes the rendered view of the face with the given row; None leaves it as it is.
    """

    person: Callable[[Person], Person] | None = None
    view: Callable[[View, int], View] | None = None


def views(faces: Faces, row: int, conditions: Mapping[str, Condition], seed: int) -> Iterator[View]:
    """Yield the view of one face in each condition.

    The person, the body and the background depend on the seed and the row only.
    """
    plain: View | None = None
    for condition in conditions.values():
        if condition.person is not None:
            view = _rendered(faces, row, seed, condition.person)
        else:
            plain = plain or _rendered(faces, row, seed, lambda person: person)
            view = plain
        yield condition.view(view, row) if condition.view else view


def _rendered(faces: Faces, row: int, seed: int, change: Callable[[Person], Person]) -> View:
    rng = np.random.default_rng([seed, row])
    drawn = draw_scene(rng, [row], face_height=(0.3, 0.3))
    person = drawn.people[0]
    person = replace(
        person,
        x=FRAME_PX / 2,
        y=FRAME_PX / 2,
        side=HEAD_PX / (1.5 * float(person.detected[2])),  # the head is 1.5 times as wide as the face
        tilt=0.0,
        drift=(0.0, 0.0, 0.0, 0.0),
    )
    backdrop = np.asarray(cv2.resize(drawn.backdrop, (FRAME_PX, FRAME_PX)), np.uint8)
    scene = Scene(FRAME_PX, FRAME_PX, (change(person),), backdrop, Camera())
    return View(render(scene, faces.images, 0.5, rng), detected_head(person, 0.5))


def _either(row: int, first: float, second: float) -> float:
    """Return one of two values, always the same one for a face."""
    return first if row % 2 else second


# --- the person


def tilted(degrees: float) -> Condition:
    """Return a condition in which the head is tilted to one of both sides."""
    return Condition(person=lambda person: replace(person, tilt=_either(person.face, degrees, -degrees)))


def covered(*occluders: Occluder) -> Condition:
    """Return a condition in which a part of the face is behind something."""
    return Condition(person=lambda person: replace(person, worn=occluders))


def _color(red: float, green: float, blue: float) -> NDArray[np.float32]:
    return np.array((red, green, blue), np.float32)


_GREY, _BLACK, _BROWN, _PALE_BLUE = (
    _color(128, 128, 128),
    _color(18, 18, 20),
    _color(60, 42, 30),
    _color(170, 200, 220),
)
_HALVES = {
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


# --- the image and the box


def shrunk(head_px: float) -> Condition:
    """Return a condition in which the person is so far away that the head is `head_px` wide."""

    def change(view: View, _: int) -> View:
        scale = head_px / HEAD_PX
        side = round(FRAME_PX * scale)
        small = cv2.resize(view.image, (side, side), interpolation=cv2.INTER_AREA)
        x1, y1, x2, y2 = (edge * side / FRAME_PX for edge in view.box)
        return View(np.asarray(small, np.uint8), (x1, y1, x2, y2))

    return Condition(view=change)


def seen_by(camera: Camera) -> Condition:
    """Return a condition in which a camera changes the image."""

    def change(view: View, row: int) -> View:
        rng = np.random.default_rng(row)
        return View(apply_camera(view.image.astype(np.float32), camera, rng), view.box)

    return Condition(view=change)


def boxed(*, scale: float = 1.0, shift: float = 0.0) -> Condition:
    """Return a condition in which the box is larger, or moved to one of four sides.

    Args:
        scale: Factor of the box's width and height.
        shift: Distance, in widths or heights of the box.
    """

    def change(view: View, row: int) -> View:
        x1, y1, x2, y2 = view.box
        width, height = x2 - x1, y2 - y1
        across, down = ((1, 0), (-1, 0), (0, 1), (0, -1))[row % 4]
        x, y = (x1 + x2) / 2 + across * shift * width, (y1 + y2) / 2 + down * shift * height
        half_w, half_h = scale * width / 2, scale * height / 2
        return View(view.image, (x - half_w, y - half_h, x + half_w, y + half_h))

    return Condition(view=change)


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
        **{f"{side} half covered": covered(occluder) for side, occluder in _HALVES.items()},
        "sunglasses": covered(*_SUNGLASSES),
        "mask": covered(*_MASK),
        "beard": covered(*_BEARD),
    }
)
HALVES: Final = tuple(f"{side} half covered" for side in _HALVES)
