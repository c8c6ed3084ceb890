"""The people of rendered scenes: how they look, stand and move, and their boxes."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.types import Box

# RGB colours of skin, dark to light. A greyscale face, scaled to a maximum of 1, times a colour is a
# coloured face.
_SKIN = np.array([(92, 58, 42), (141, 94, 66), (188, 138, 104), (222, 176, 146), (241, 205, 180)], np.float32)
_HAIR = np.array([(20, 16, 14), (50, 34, 24), (96, 64, 36), (170, 130, 80), (150, 150, 150)], np.float32)

# Occluders of the lower half, the left, the right, the eyes and a cheek: centre x, y and half width, half
# height, in sides of the face square.
_OCCLUDERS = (
    (0.0, 0.34, 0.42, 0.26),
    (-0.34, 0.0, 0.3, 0.55),
    (0.34, 0.0, 0.3, 0.55),
    (0.0, -0.12, 0.42, 0.12),
    (0.25, 0.25, 0.2, 0.25),
)

# Where CenterFace finds the face in a FER2013 square: centre x, centre y, width and height, in sides of the
# square. Mean and standard deviation over 150 faces of the validation split pasted on a body.
_FACE_IN_SQUARE = np.array([(0.50, 0.51, 0.78, 0.92), (0.04, 0.04, 0.09, 0.09)])


@dataclass(frozen=True, slots=True)
class Occluder:
    """An ellipse in front of a face.

    Attributes:
        x: Centre, in sides of the face square to the right of its centre.
        y: Centre, in sides of the face square below its centre.
        half_width: In sides of the face square.
        half_height: In sides of the face square.
        color: (3,) float32 RGB, 0 to 255.
        opacity: 1 hides the face; below 1 the face shines through, as through a beard.
    """

    x: float
    y: float
    half_width: float
    half_height: float
    color: NDArray[np.float32]
    opacity: float = 1.0


@dataclass(frozen=True, slots=True)
class RenderedPerson:
    """One person of a scene. Lengths are in pixels of the image.

    Attributes:
        face: Row of the face among the faces given to `render`.
        x: Centre of the face square in the middle of the clip.
        y: Centre of the face square in the middle of the clip.
        side: Side of the face square.
        tilt: Rotation of the head, degrees clockwise.
        flip: Mirror the face.
        drift: Change of x, y, relative size and tilt from the first to the last frame.
        skin: (3,) float32 RGB, 0 to 255.
        hair: (3,) float32 RGB, 0 to 255.
        cloth: (3,) float32 RGB, 0 to 255.
        hair_width: Half width of the hair, in sides of the face square.
        shoulders: Half width of the shoulders, in sides of the face square.
        detected: (4,) float64, centre x, centre y, width and height of the face as a detector would box it,
            in sides of the face square.
        narrow: Width of the face as a fraction of its width from the front; below 1 it is turned aside.
        occluder: What hides a part of the face, or None.
        worn: Beard, glasses or mask, painted before the occluder.
        close_up: Show all of the face square and nothing else of the person.
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
    detected: NDArray[np.float64]
    narrow: float = 1.0
    occluder: Occluder | None = None
    worn: tuple[Occluder, ...] = ()
    close_up: bool = False


def draw_person(rng: np.random.Generator, face: int, x: float, y: float, side: float) -> RenderedPerson:
    """Draw a random person. face, x, y, side: as in `RenderedPerson`."""
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
    """Tilt, turn aside or partly hide a person, each with some probability."""
    return replace(
        person,
        tilt=float(rng.uniform(-25, 25)) if rng.random() < 0.3 else person.tilt,
        narrow=float(rng.uniform(0.82, 1.0)) if rng.random() < 0.5 else 1.0,
        occluder=_draw_occluder(rng) if rng.random() < 0.2 else None,
    )


def _draw_occluder(rng: np.random.Generator) -> Occluder:
    """Draw an ellipse that stands for a hand, a cup, a mask, dark glasses or a shoulder."""
    color = _between(rng, _SKIN) if rng.random() < 0.4 else rng.uniform(10, 245, 3).astype(np.float32)
    x, y, half_width, half_height = _OCCLUDERS[rng.integers(len(_OCCLUDERS))]
    reach = float(rng.uniform(0.8, 1.15))
    x, y = x + float(rng.normal(0, 0.05)), y + float(rng.normal(0, 0.04))
    return Occluder(x, y, half_width * reach, half_height * reach, color)


def draw_cover(rng: np.random.Generator) -> Occluder:
    """Draw what hides about half of a face: its left, right, lower or upper part."""
    color = _between(rng, _SKIN) if rng.random() < 0.3 else rng.uniform(5, 250, 3).astype(np.float32)
    edge = float(rng.normal(0.03, 0.06))  # how far from the middle of the face it ends
    reach = float(rng.uniform(0.6, 1.6))  # large ones have a nearly straight edge
    middle, half = edge + reach, float(rng.uniform(0.7, 1.5))
    return (
        Occluder(-middle, 0.0, reach, half, color),
        Occluder(middle, 0.0, reach, half, color),
        Occluder(0.0, middle, half, reach, color),
        Occluder(0.0, -middle, half, reach, color),
    )[rng.integers(4)]


def draw_worn(rng: np.random.Generator) -> tuple[Occluder, ...]:
    """Draw a beard, dark glasses or a mask."""
    kind = rng.random()
    dark = rng.uniform(5, 60, 3).astype(np.float32)
    if kind < 0.45:
        return _draw_beard(rng)
    if kind < 0.8:
        across, half = float(rng.uniform(0.15, 0.19)), float(rng.uniform(0.11, 0.15))
        down, opacity = float(rng.normal(-0.13, 0.02)), float(rng.uniform(0.8, 1.0))
        lenses = tuple(
            Occluder(x, down, half, half * float(rng.uniform(0.65, 0.95)), dark, opacity)
            for x in (-across, across)
        )
        return (*lenses, Occluder(0.0, down - 0.03, across, 0.015, dark))
    color = rng.uniform(20, 250, 3).astype(np.float32)
    return (Occluder(0.0, float(rng.normal(0.3, 0.03)), 0.36, float(rng.uniform(0.22, 0.28)), color),)


def _draw_beard(rng: np.random.Generator) -> tuple[Occluder, ...]:
    """Draw hair on chin and cheeks, on the upper lip, or on both; the mouth stays visible."""
    color, opacity = _between(rng, _HAIR), float(rng.uniform(0.35, 0.85))
    upper_lip = Occluder(0.0, 0.16, float(rng.uniform(0.13, 0.2)), 0.03, color, opacity)
    chin = Occluder(0.0, float(rng.uniform(0.37, 0.42)), float(rng.uniform(0.15, 0.3)), 0.12, color, opacity)
    cheeks = tuple(Occluder(x, 0.24, 0.09, 0.2, color, opacity) for x in (-0.32, 0.32))
    parts: tuple[tuple[Occluder, ...], ...] = ((upper_lip,), (chin, upper_lip), (chin, *cheeks, upper_lip))
    return parts[rng.integers(len(parts))]


def pose(person: RenderedPerson, time: float) -> tuple[float, float, float, float]:
    """Return centre x, centre y and side of the face square, and the tilt in degrees. time: from 0 to 1."""
    elapsed = time - 0.5  # x, y, side and tilt are those of mid-clip
    dx, dy, grow, turn = person.drift
    return (
        person.x + dx * elapsed,
        person.y + dy * elapsed,
        person.side * (1 + grow * elapsed),
        person.tilt + turn * elapsed,
    )


def face_box(person: RenderedPerson, time: float) -> Box:
    """Return the box of the face as the default detector would give it, in pixels of the image."""
    x, y, side, _ = pose(person, time)
    center_x, center_y, width, height = person.detected
    middle_x, middle_y = x + (center_x - 0.5) * side, y + (center_y - 0.5) * side
    half_w, half_h = width * side / 2, height * side / 2
    return (middle_x - half_w, middle_y - half_h, middle_x + half_w, middle_y + half_h)


def body_box(person: RenderedPerson, time: float, height: int) -> Box:
    """Return the box of the whole visible person as a person detector would give it. height: of the image."""
    x, y, side, _ = pose(person, time)
    half = person.shoulders * side
    return (x - half, y - 0.68 * side, x + half, float(height))


def _between(rng: np.random.Generator, colors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Draw a colour near the line that connects the given ones."""
    position = rng.uniform(0, len(colors) - 1)
    low = colors[int(position)]
    color = low + (colors[min(int(position) + 1, len(colors) - 1)] - low) * (position % 1)
    return np.asarray(np.clip(color * rng.uniform(0.9, 1.1, 3), 0, 255), np.float32)
