"""The demo scene: two public-domain portraits that move slowly, rendered on the fly.

The portraits are Eileen Collins (NASA, part of scikit-image) and Grace Hopper (US Navy, part of Matplotlib).
Both packages are dependencies, so a first run needs no camera, no file and no download.
"""

import importlib.util
import math
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_runtime.types import Box, Frame

WIDTH, HEIGHT = 640, 360
RATE = 25
SECONDS = 6

_CARD = (224, 280)  # width and height of a portrait card, pixels
_RADIUS = 18
_MARGIN = 32  # space around a card for its shadow, pixels
_SHADOW = 0.45  # opacity
_TOP, _BOTTOM = (74, 58, 46), (142, 124, 108)  # BGR colours of the background


@dataclass(frozen=True, slots=True)
class _Portrait:
    """A portrait and its movement.

    Attributes:
        package: Package that the image is part of.
        file: Path of the image in the package.
        cut: x, y and width of the part shown, in pixels; the height follows from the card's aspect ratio.
        center: Centre of the card at rest, in pixels.
        phase: Where in its movement the card starts, as a fraction of a period.
        head: Box of the head (x1, y1, x2, y2), in pixels from `center`.
    """

    package: str
    file: str
    cut: tuple[int, int, int]
    center: tuple[float, float]
    phase: float
    head: Box


_PORTRAITS = (
    _Portrait(
        "skimage", "data/astronaut.png", (62, 0, 330), (164.0, 180.0), 0.0, (-60.0, -120.0, 36.0, -10.0)
    ),
    _Portrait(
        "matplotlib",
        "mpl-data/sample_data/grace_hopper.jpg",
        (24, 10, 464),
        (476.0, 180.0),
        0.4,
        (-46.0, -110.0, 44.0, 10.0),
    ),
)


def read_demo(step: int = 1) -> Generator[Frame, None, None]:
    """Return 150 frames (360, 640, 3) at 25 frames per second, the same every time; `Frame.source` is "demo".

    Args:
        step: Only every so many frames; the others are not rendered.

    Raises:
        EmotionError: A portrait is missing in its package.
    """
    cards = [_card(_load(portrait), portrait.cut) for portrait in _PORTRAITS]
    return _frames(cards, step)


def head_boxes() -> tuple[Box, ...]:
    """Return the head box of each person at rest, (x1, y1, x2, y2) in frame pixels, from left to right.

    The people move by up to 22 pixels around it.
    """
    boxes = []
    for portrait in _PORTRAITS:
        (x, y), (x1, y1, x2, y2) = portrait.center, portrait.head
        boxes.append((x + x1, y + y1, x + x2, y + y2))
    return tuple(boxes)


def _frames(cards: list[NDArray[np.float32]], step: int) -> Generator[Frame, None, None]:
    background = _background()
    for index in range(0, RATE * SECONDS, step):
        t = index / RATE
        scene = background.copy()
        for card, portrait in zip(cards, _PORTRAITS, strict=True):
            layer = cv2.warpAffine(card, _placement(card, portrait, t), (WIDTH, HEIGHT))
            scene *= 1 - layer[:, :, 3:]
            scene += layer[:, :, :3]
        yield Frame(np.clip(np.rint(scene), 0, 255).astype(np.uint8), index, t, "demo")


def _placement(card: NDArray[np.float32], portrait: _Portrait, t: float) -> NDArray[np.float64]:
    """Return the affine map (2, 3) of a card at time t, which sways, nods and changes its scale."""
    turn = 2 * math.pi * (t / SECONDS + portrait.phase)
    x = portrait.center[0] + 22 * math.sin(turn)
    y = portrait.center[1] + 9 * math.sin(2 * turn)
    scale = 1 + 0.03 * math.cos(turn)
    height, width = card.shape[:2]
    return np.array([[scale, 0, x - scale * width / 2], [0, scale, y - scale * height / 2]])


def _background() -> NDArray[np.float32]:
    """Return (360, 640, 3) float32 BGR: a vertical gradient, lighter towards the middle."""
    down = np.linspace(0, 1, HEIGHT, dtype=np.float32)[:, None, None]
    across = np.linspace(-1, 1, WIDTH, dtype=np.float32)[None, :, None]
    gradient = (1 - down) * np.array(_TOP, np.float32) + down * np.array(_BOTTOM, np.float32)
    # Half a grey level of fixed noise avoids visible bands in the slow gradient.
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (HEIGHT, WIDTH, 1))
    scene: NDArray[np.float32] = (gradient * (1 - 0.12 * across**2) + noise).astype(np.float32)
    return scene


def _card(image: NDArray[np.uint8], cut: tuple[int, int, int]) -> NDArray[np.float32]:
    """Return a portrait with round corners and a shadow: (h, w, 4) float32, BGR times alpha and alpha."""
    left, top, side = cut
    part = image[top : top + round(side * _CARD[1] / _CARD[0]), left : left + side]
    portrait = cv2.resize(part, _CARD, interpolation=cv2.INTER_AREA).astype(np.float32)
    padding = ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0))
    color = np.pad(portrait, padding)
    solid = np.pad(_rounded(), padding)
    shadow = cv2.GaussianBlur(np.roll(solid, 8, axis=0), (0, 0), 9)[:, :, None] * _SHADOW
    alpha = solid + shadow * (1 - solid)
    return np.concatenate([color * solid, alpha], axis=2).astype(np.float32)


def _rounded() -> NDArray[np.float32]:
    """Return the coverage (h, w, 1) float32 of a card with round corners, antialiased."""
    width, height = _CARD
    x = np.abs(np.arange(width) + 0.5 - width / 2) - (width / 2 - _RADIUS)
    y = np.abs(np.arange(height) + 0.5 - height / 2) - (height / 2 - _RADIUS)
    distance = np.hypot(np.maximum(x, 0)[None, :], np.maximum(y, 0)[:, None]) - _RADIUS
    coverage: NDArray[np.float32] = np.clip(0.5 - distance, 0, 1).astype(np.float32)[:, :, None]
    return coverage


def _load(portrait: _Portrait) -> NDArray[np.uint8]:
    """Return (H, W, 3) uint8 BGR. The package is located but not imported, since that would be slow."""
    spec = importlib.util.find_spec(portrait.package)
    folders = spec.submodule_search_locations if spec else None
    path = Path(folders[0]) / portrait.file if folders else Path(portrait.file)
    if not path.is_file():
        raise EmotionError(
            f"source demo: {path} is missing; pip install --force-reinstall scikit-image matplotlib"
        )
    return np.asarray(cv2.imread(str(path)), np.uint8)
