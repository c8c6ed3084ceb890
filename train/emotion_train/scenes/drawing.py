"""Scenes drawn on the spot: people with faces of known emotion on plausible bodies and backgrounds.

A scene is a whole picture as a camera would give it; windows and boxes come from the runtime's own code,
so a model meets in training what the runtime will hand it.
"""

from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_train.scenes.camera import Camera, Picture, apply_camera, draw_camera, draw_degraded_camera
from emotion_train.scenes.people import RenderedPerson, disturbed, draw_person, pose

ASPECT = (1.0, 1.78)  # of cameras, square to wide
MIN_FACE_SIDE = 22  # side of a face square, pixels; what is smaller no label can be read from


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture size, the people in it, and the camera, which stays the same for the whole clip."""

    height: int
    width: int
    people: tuple[RenderedPerson, ...]
    backdrop: Picture
    camera: Camera


def draw_scene(
    rng: np.random.Generator,
    faces: list[int],
    *,
    face_height: tuple[float, float],
    aspect: tuple[float, float] = ASPECT,
    degraded: bool = False,
) -> Scene:
    """A random scene with one person for every face number.

    face_height: least and largest side of a face square relative to the picture's height. aspect: least and
    largest width of the picture relative to its height. degraded: taken by a degraded camera, of people
    who tilt their heads, turn aside and now and then hide a part of their faces.
    """
    height = int(rng.integers(180, 301))
    width = int(height * rng.uniform(*aspect))
    slot = width / len(faces)
    crowd = rng.uniform(0.55, 1.0)  # how far apart people stand
    common = rng.uniform(*face_height) * height
    people = []
    for i, face in enumerate(faces):
        side = float(np.clip(common * rng.uniform(0.85, 1.2), MIN_FACE_SIDE, 0.8 * slot * crowd + 8))
        x = width / 2 + (i + 0.5 - len(faces) / 2) * slot * crowd + rng.uniform(-0.1, 0.1) * slot
        y = float(np.clip(height * rng.uniform(0.25, 0.6), 0.65 * side, height - 0.5 * side))
        person = draw_person(rng, face, x, y, side)
        people.append(disturbed(rng, person) if degraded else person)
    camera = draw_degraded_camera(rng) if degraded else draw_camera(rng)
    return Scene(height, width, tuple(people), _backdrop(rng, height, width), camera)


def draw_close_up(rng: np.random.Generator, face: int, *, degraded: bool = False) -> Scene:
    """A picture that a face fills, as photographs cut to it are. degraded: as in `draw_scene`."""
    size = int(rng.integers(48, 225))
    middle = size / 2 + rng.normal(0, 0.02 * size, 2)
    person = draw_person(rng, face, float(middle[0]), float(middle[1]), size * float(rng.uniform(0.95, 1.3)))
    person = replace(disturbed(rng, person) if degraded else person, close_up=True)
    camera = draw_degraded_camera(rng) if degraded else draw_camera(rng)
    return Scene(size, size, (person,), _backdrop(rng, size, size), camera)


def render(scene: Scene, images: NDArray[np.uint8], time: float, rng: np.random.Generator) -> Picture:
    """The scene at one time of its clip.

    images: (N, 48, 48) uint8 grey faces that the people point into. time: 0 (first) to 1 (last).
    Returns (H, W, 3) uint8 RGB.
    """
    canvas = scene.backdrop.astype(np.float32)
    people = sorted(scene.people, key=lambda a: a.side)  # the larger stand in front
    for person in people:
        if not person.close_up:
            _paint_body(canvas, person, time)
    for person in people:  # after all bodies: a neighbour's shoulder must not hide the face that is the label
        _paint_head(canvas, person, images[person.face], time)
    return apply_camera(canvas, scene.camera, rng)


def _paint_body(canvas: NDArray[np.float32], person: RenderedPerson, time: float) -> None:
    x, y, side, _ = pose(person, time)
    width = person.shoulders * side
    _ellipse(canvas, (x, y + 1.35 * side), (width, 0.72 * side), person.cloth)
    bottom = _int(x + width, canvas.shape[0])
    cv2.rectangle(canvas, _int(x - width, y + 1.3 * side), bottom, _tuple(person.cloth), -1)


def _paint_head(
    canvas: NDArray[np.float32], person: RenderedPerson, image: NDArray[np.uint8], time: float
) -> None:
    x, y, side, degrees = pose(person, time)
    if not person.close_up:
        neck = _tuple(person.skin * 0.75)
        cv2.line(canvas, _int(x, y + 0.3 * side), _int(x, y + 0.75 * side), neck, int(0.4 * side))
        _ellipse(canvas, (x, y - 0.06 * side), (person.hair_width * side, 0.66 * side), person.hair)
    # The grey face keeps its own shading; the skin colour is that of its brightest parts.
    face = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB).astype(np.float32)
    face = face / max(float(np.percentile(image, 95)), 60.0) * person.skin
    # Warp only into the square's surroundings, not the whole picture.
    reach = int(0.75 * side) + 1
    left, top = max(int(x) - reach, 0), max(int(y) - reach, 0)
    right, bottom = min(int(x) + reach, canvas.shape[1]), min(int(y) + reach, canvas.shape[0])
    if right <= left or bottom <= top:
        return
    turn = cv2.getRotationMatrix2D((23.5, 23.5), -degrees, side / 48)
    if person.flip:
        turn = turn @ np.array([[-1, 0, 47], [0, 1, 0], [0, 0, 1]], np.float64)
    turn[:, 2] += np.array([x - 23.5 - left, y - 23.5 - top])
    turn[0] = person.narrow * turn[0] + [0, 0, (1 - person.narrow) * (x - left)]
    size = (right - left, bottom - top)
    warped = cv2.warpAffine(face, turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    region = canvas[top:bottom, left:right]
    if person.close_up:
        region[:] = warped  # the borders replicated around the square
    else:
        alpha = cv2.warpAffine(_face_alpha(), turn, size, flags=cv2.INTER_LINEAR)[..., None]
        region += (warped - region) * alpha
    if person.occluder is not None:
        cover, angle = person.occluder, np.deg2rad(degrees)
        middle = (
            x + side * (cover.x * np.cos(angle) - cover.y * np.sin(angle)),
            y + side * (cover.x * np.sin(angle) + cover.y * np.cos(angle)),
        )
        axes = (cover.half_width * side, cover.half_height * side)
        _ellipse(canvas, middle, axes, cover.color, degrees)


@cache
def _face_alpha() -> NDArray[np.float32]:
    """Soft mask of a face inside its 48 px square: the corners, which hold background, fade out."""
    y, x = (np.mgrid[0:48, 0:48] - 23.5) / 24
    radius = (np.abs(x) / 0.98) ** 3 + (np.abs(y) / 1.04) ** 3
    return np.asarray(np.clip((1.05 - radius) * 4, 0, 1), np.float32)


def _backdrop(rng: np.random.Generator, height: int, width: int) -> Picture:
    """A blurred patchwork: walls, furniture, windows and passers-by have no sharper shape than this."""
    shape = (int(rng.integers(2, 8)), int(rng.integers(2, 10)))
    # Rooms are mostly dull: a shared brightness with a little colour of its own in each channel.
    color = rng.uniform(-1, 1, (*shape, 3)) * rng.choice([15, 40, 100])
    coarse = np.clip(rng.uniform(10, 245, (*shape, 1)) + color, 0, 255).astype(np.float32)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(int(rng.integers(0, 9))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        w, h = rng.uniform(0.03, 0.5) * width, rng.uniform(0.03, 0.6) * height
        paint = _tuple(rng.uniform(0, 255) + rng.uniform(-1, 1, 3) * rng.choice([15, 100]))
        if rng.random() < 0.5:
            cv2.rectangle(picture, _int(x - w / 2, y - h / 2), _int(x + w / 2, y + h / 2), paint, -1)
        else:
            cv2.ellipse(
                picture, _int(x, y), _int(w / 2, h / 2), float(rng.uniform(0, 180)), 0, 360, paint, -1
            )
    if rng.random() < 0.7:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.8, 6)))
    return np.asarray(np.clip(picture, 0, 255), np.uint8)


def _ellipse(
    canvas: NDArray[np.float32],
    center: tuple[float, float],
    axes: tuple[float, float],
    color: NDArray[np.float32],
    degrees: float = 0.0,
) -> None:
    cv2.ellipse(canvas, _int(*center), _int(*axes), degrees, 0, 360, _tuple(color), -1, cv2.LINE_AA)


def _int(x: float, y: float) -> tuple[int, int]:
    return round(x), round(y)


def _tuple(color: NDArray[np.floating]) -> tuple[float, float, float]:
    return float(color[0]), float(color[1]), float(color[2])
