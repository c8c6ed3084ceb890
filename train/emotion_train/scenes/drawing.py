"""Rendered scenes: faces of known emotion on plausible bodies in front of backgrounds.

A scene is a whole image as a camera would deliver it. Crop windows and boxes are computed by the runtime's
code, so a model sees in training what the runtime will give it.
"""

from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_train.scenes.camera import Camera, RgbImage, apply_camera, draw_camera, draw_degraded_camera
from emotion_train.scenes.people import Occluder, RenderedPerson, disturbed, draw_person, pose

ASPECT = (1.0, 1.78)  # smallest and largest ratio of width to height
MIN_FACE_SIDE = 16  # side of a face square, pixels; the emotion of a smaller face cannot be recognised


@dataclass(frozen=True, slots=True)
class Scene:
    """The people in front of a camera, which stays the same for the whole clip.

    Attributes:
        height: Height of the image, pixels.
        width: Width of the image, pixels.
        people: The people, from left to right.
        backdrop: The background, (height, width, 3) uint8 RGB.
        camera: Light and camera.
    """

    height: int
    width: int
    people: tuple[RenderedPerson, ...]
    backdrop: RgbImage
    camera: Camera


def draw_scene(
    rng: np.random.Generator,
    faces: list[int],
    *,
    face_height: tuple[float, float],
    aspect: tuple[float, float] = ASPECT,
    degraded: bool = False,
) -> Scene:
    """Draw a random scene with one person for every face.

    Args:
        rng: Random generator.
        faces: Rows of the faces, see `RenderedPerson.face`.
        face_height: Smallest and largest side of a face square as a fraction of the image's height.
        aspect: Smallest and largest ratio of the image's width to its height.
        degraded: Use a degraded camera and people who tilt their heads, turn aside and sometimes hide a part
            of their faces.
    """
    height = int(rng.integers(180, 301))
    width = int(height * rng.uniform(*aspect))
    slot = width / len(faces)
    spacing = rng.uniform(0.55, 1.0)  # 1: people fill the width
    common = np.exp(rng.uniform(*np.log(face_height))) * height  # as many from 20 to 30 px as from 40 to 60
    people = []
    for i, face in enumerate(faces):
        side = float(np.clip(common * rng.uniform(0.85, 1.2), MIN_FACE_SIDE, 0.8 * slot * spacing + 8))
        x = width / 2 + (i + 0.5 - len(faces) / 2) * slot * spacing + rng.uniform(-0.1, 0.1) * slot
        y = float(np.clip(height * rng.uniform(0.25, 0.6), 0.65 * side, height - 0.5 * side))
        person = draw_person(rng, face, x, y, side)
        people.append(disturbed(rng, person) if degraded else person)
    camera = draw_degraded_camera(rng) if degraded else draw_camera(rng)
    return Scene(height, width, tuple(people), _backdrop(rng, height, width), camera)


def draw_close_up(rng: np.random.Generator, face: int, *, degraded: bool = False) -> Scene:
    """Draw a square image that one face fills, like a cropped photograph.

    Args:
        rng: Random generator.
        face: Row of the face.
        degraded: As in `draw_scene`.
    """
    size = int(rng.integers(48, 225))
    middle = size / 2 + rng.normal(0, 0.02 * size, 2)
    person = draw_person(rng, face, float(middle[0]), float(middle[1]), size * float(rng.uniform(0.95, 1.3)))
    person = replace(disturbed(rng, person) if degraded else person, close_up=True)
    camera = draw_degraded_camera(rng) if degraded else draw_camera(rng)
    return Scene(size, size, (person,), _backdrop(rng, size, size), camera)


def render(scene: Scene, images: NDArray[np.uint8], time: float, rng: np.random.Generator) -> RgbImage:
    """Render one frame of a scene.

    Args:
        scene: The scene.
        images: (N, 48, 48) uint8 greyscale faces; `RenderedPerson.face` is a row of them.
        time: Position in the clip, from 0 (first frame) to 1 (last frame).
        rng: Draws the noise.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    canvas = scene.backdrop.astype(np.float32)
    people = sorted(scene.people, key=lambda person: person.side)  # larger people stand in front
    for person in people:
        if not person.close_up:
            _paint_body(canvas, person, time)
    for person in people:  # after all bodies, so that no shoulder hides a labelled face
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
    # The face keeps its shading; its brightest parts get the skin colour.
    face = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB).astype(np.float32)
    face = face / max(float(np.percentile(image, 95)), 60.0) * person.skin
    # Warp only the surroundings of the square, not the whole image.
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
        region[:] = warped  # beyond the square its border pixels are repeated
    else:
        alpha = cv2.warpAffine(_face_alpha(), turn, size, flags=cv2.INTER_LINEAR)[..., None]
        region += (warped - region) * alpha
    for occluder in (*person.worn, person.occluder):
        if occluder is not None:
            _paint_occluder(canvas, occluder, (x, y, side, degrees))


def _paint_occluder(
    canvas: NDArray[np.float32], occluder: Occluder, head: tuple[float, float, float, float]
) -> None:
    """Paint an occluder on a head, which is given as `pose` returns it."""
    x, y, side, degrees = head
    angle = np.deg2rad(degrees)
    middle = (
        x + side * (occluder.x * np.cos(angle) - occluder.y * np.sin(angle)),
        y + side * (occluder.x * np.sin(angle) + occluder.y * np.cos(angle)),
    )
    axes = (occluder.half_width * side, occluder.half_height * side)
    if occluder.opacity == 1:
        _ellipse(canvas, middle, axes, occluder.color, degrees)
        return
    reach = int(max(axes)) + 2
    left, top = max(int(middle[0]) - reach, 0), max(int(middle[1]) - reach, 0)
    region = canvas[top : int(middle[1]) + reach, left : int(middle[0]) + reach]
    if region.size:
        painted = region.copy()
        _ellipse(painted, (middle[0] - left, middle[1] - top), axes, occluder.color, degrees)
        region += (painted - region) * np.float32(occluder.opacity)


@cache
def _face_alpha() -> NDArray[np.float32]:
    """Return a soft mask of a face in its 48 px square; the corners, which show background, fade out."""
    y, x = (np.mgrid[0:48, 0:48] - 23.5) / 24
    radius = (np.abs(x) / 0.98) ** 3 + (np.abs(y) / 1.04) ** 3
    return np.asarray(np.clip((1.05 - radius) * 4, 0, 1), np.float32)


def _backdrop(rng: np.random.Generator, height: int, width: int) -> RgbImage:
    """Draw a blurred patchwork that stands for walls, furniture, windows and passers-by."""
    shape = (int(rng.integers(2, 8)), int(rng.integers(2, 10)))
    # Most rooms are grey: the channels share a brightness and differ only a little.
    color = rng.uniform(-1, 1, (*shape, 3)) * rng.choice([15, 40, 100])
    coarse = np.clip(rng.uniform(10, 245, (*shape, 1)) + color, 0, 255).astype(np.float32)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(int(rng.integers(0, 9))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        w, h = rng.uniform(0.03, 0.5) * width, rng.uniform(0.03, 0.6) * height
        paint = _tuple(rng.uniform(0, 255) + rng.uniform(-1, 1, 3) * rng.choice([15, 100]))
        if rng.random() < 0.5:
            cv2.rectangle(image, _int(x - w / 2, y - h / 2), _int(x + w / 2, y + h / 2), paint, -1)
        else:
            cv2.ellipse(image, _int(x, y), _int(w / 2, h / 2), float(rng.uniform(0, 180)), 0, 360, paint, -1)
    if rng.random() < 0.7:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.8, 6)))
    return np.asarray(np.clip(image, 0, 255), np.uint8)


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
