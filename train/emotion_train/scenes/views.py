"""Views of one person that differ in a single condition.

The plain view shows one face, upright, on a rendered body, with a head of 160 px and the box that the
runtime's default detector would give, with that detector's noise. Every condition changes one thing in it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from emotion_runtime.types import Box
from emotion_train.scenes.batches import detected_head
from emotion_train.scenes.camera import Camera, RgbImage, apply_camera
from emotion_train.scenes.drawing import Scene, draw_scene, render
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.people import RenderedPerson

HEAD_PX = 160  # width of the head's box in the plain view
FRAME_PX = 420  # side of the plain view
PLAIN = "plain"


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

    person: Callable[[RenderedPerson], RenderedPerson] | None = None
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


def _rendered(faces: Faces, row: int, seed: int, change: Callable[[RenderedPerson], RenderedPerson]) -> View:
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


def cut(inside: float) -> Condition:
    """Return a condition in which a fraction of the head lies beyond an edge of the image.

    Args:
        inside: Fraction of the head's box inside the image.
    """

    def change(view: View, row: int) -> View:
        x1, y1, x2, y2 = view.box
        if row % 3 == 0:  # the chin
            return View(view.image[: round(y1 + inside * (y2 - y1))], view.box)
        if row % 3 == 1:  # the right side of the image
            return View(view.image[:, : round(x1 + inside * (x2 - x1))], view.box)
        start = round(x2 - inside * (x2 - x1))
        return View(view.image[:, start:], (x1 - start, y1, x2 - start, y2))

    return Condition(view=change)
