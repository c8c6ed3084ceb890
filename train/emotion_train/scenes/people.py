"""The people of rendered scenes: how they look, stand and move, and their boxes."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.types import Box

# Skin from dark to light, RGB: a grey face times one of these (over its brightest value) is a coloured face.
_SKIN = np.array([(92, 58, 42), (141, 94, 66), (188, 138, 104), (222, 176, 146), (241, 205, 180)], np.float32)
_HAIR = np.array([(20, 16, 14), (50, 34, 24), (96, 64, 36), (170, 130, 80), (150, 150, 150)], np.float32)

# What covers faces: centre x, y and half width, half height, in sides of the square. Lower half, left,
# right, eyes, a cheek.
_COVERS = (
    (0.0, 0.34, 0.42, 0.26),
    (-0.34, 0.0, 0.3, 0.55),
    (0.34, 0.0, 0.3, 0.55),
    (0.0, -0.12, 0.42, 0.12),
    (0.25, 0.25, 0.2, 0.25),
)

# Where CenterFace finds the face in a FER2013 square, in sides of that square: centre x, centre y, width,
# height; mean and spread over 150 faces of the validation split pasted on a body.
_FACE_IN_SQUARE = np.array([(0.50, 0.51, 0.78, 0.92), (0.04, 0.04, 0.09, 0.09)])


@dataclass(frozen=True, slots=True)
class Occluder:
    """Something before a face: an ellipse, in sides of the face square from its centre. color: RGB."""

    x: float
    y: float
    half_width: float
    half_height: float
    color: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RenderedPerson:
    """One person of a scene. Lengths in pixels of the picture.

    face: row of the face among the faces given. x, y: centre of the face square at mid-clip, side: its side.
    drift: (x, y, relative size, degrees) moved from the first to the last frame. tilt: degrees, clockwise.
    narrow: width of a face that is turned a little aside, of its width seen from the front. close_up: all of
    the square is shown, and nothing else is drawn of the person.
    """

    face: int
    x: float
    y: float
    side: float
    tilt: float
    flip: bool
    drift: tuple[float, float, float, float]
    skin: NDArray[np.float32]
    hair: NDArray[np.float32]
    cloth: NDArray[np.float32]
    hair_width: float
    shoulders: float
    detected: NDArray[np.float64]  # face box relative to the square, as a detector would place it
    narrow: float = 1.0
    occluder: Occluder | None = None
    close_up: bool = False


def draw_person(rng: np.random.Generator, face: int, x: float, y: float, side: float) -> RenderedPerson:
    """Draw a random person with a face at a position."""
    reach = 0.12 * side * rng.random()
    return RenderedPerson(
        face,
        x,
        y,
        side,
        tilt=float(rng.normal(0, 7)),
        flip=bool(rng.random() < 0.5),
        drift=(
            float(rng.normal(0, reach)),
            float(rng.normal(0, 0.5 * reach)),
            float(rng.normal(0, 0.04)),
            float(rng.normal(0, 3)),
        ),
        skin=_between(rng, _SKIN),
        hair=_between(rng, _HAIR),
        cloth=rng.uniform(15, 235, 3).astype(np.float32),
        hair_width=float(rng.uniform(0.42, 0.62)),
        shoulders=float(rng.uniform(0.85, 1.25)),
        detected=rng.normal(_FACE_IN_SQUARE[0], 0.6 * _FACE_IN_SQUARE[1]),
    )


def disturbed(rng: np.random.Generator, person: RenderedPerson) -> RenderedPerson:
    """Tilt, turn aside or partly hide a person at random."""
    return replace(
        person,
        tilt=float(rng.uniform(-25, 25)) if rng.random() < 0.3 else person.tilt,
        narrow=float(rng.uniform(0.82, 1.0)) if rng.random() < 0.5 else 1.0,
        occluder=_draw_occluder(rng) if rng.random() < 0.2 else None,
    )


def _draw_occluder(rng: np.random.Generator) -> Occluder:
    """A hand, a cup, a mask, dark glasses or somebody's shoulder."""
    color = _between(rng, _SKIN) if rng.random() < 0.4 else rng.uniform(10, 245, 3).astype(np.float32)
    x, y, half_width, half_height = _COVERS[rng.integers(len(_COVERS))]
    reach = float(rng.uniform(0.8, 1.15))
    x, y = x + float(rng.normal(0, 0.05)), y + float(rng.normal(0, 0.04))
    return Occluder(x, y, half_width * reach, half_height * reach, color)


def pose(person: RenderedPerson, time: float) -> tuple[float, float, float, float]:
    """Centre x, centre y, side, degrees at a time."""
    along = time - 0.5
    dx, dy, grow, turn = person.drift
    return (
        person.x + dx * along,
        person.y + dy * along,
        person.side * (1 + grow * along),
        person.tilt + turn * along,
    )


def face_box(person: RenderedPerson, time: float) -> Box:
    """The face as the default detector would box it, in pixels of the picture."""
    x, y, side, _ = pose(person, time)
    center_x, center_y, width, height = person.detected
    middle_x, middle_y = x + (center_x - 0.5) * side, y + (center_y - 0.5) * side
    half_w, half_h = width * side / 2, height * side / 2
    return (middle_x - half_w, middle_y - half_h, middle_x + half_w, middle_y + half_h)


def body_box(person: RenderedPerson, time: float, height: int) -> Box:
    """The whole visible person as a person detector would box it, in pixels of the picture."""
    x, y, side, _ = pose(person, time)
    half = person.shoulders * side
    return (x - half, y - 0.68 * side, x + half, float(height))


def _between(rng: np.random.Generator, colors: NDArray[np.float32]) -> NDArray[np.float32]:
    """A random colour on the line through the given ones, a little off it."""
    at = rng.uniform(0, len(colors) - 1)
    low = colors[int(at)]
    color = low + (colors[min(int(at) + 1, len(colors) - 1)] - low) * (at % 1)
    return np.asarray(np.clip(color * rng.uniform(0.9, 1.1, 3), 0, 255), np.float32)
