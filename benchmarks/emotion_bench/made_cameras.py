"""Made cameras: people whose number is known, played at a camera's pace, without anything to decode."""

import time
from collections.abc import Generator, Sequence
from datetime import datetime, timezone
from functools import cache
from threading import Event

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.sources.demo import head_boxes, read_demo
from emotion_runtime.sources.live import LiveSource
from emotion_runtime.sources.shots import Connect, Shot

RATE = 12.0  # frames per second
SIZE = (640, 480)  # width and height in pixels
_FRAMES = 48  # frames of a clip, which is played forwards and backwards
_TILE = 2.0  # side of the part of the demo that is shown around a head, in head widths
_LARGEST = 110  # width of a head at most, in pixels
_SWAY = 0.15  # how far a head moves to either side, in its widths

Image = NDArray[np.uint8]


def crowd(people: int, size: tuple[int, int] = SIZE, frames: int = _FRAMES) -> list[Image]:
    """Return a clip of so many people side by side, all of whom are always in view: the demo's two portraits.

    Args:
        people: Number of people.
        size: Width and height of the frames in pixels.
        frames: Number of frames.

    Returns:
        Images (H, W, 3) uint8 BGR, each different from the others.
    """
    width, height = size
    tiles = _tiles()
    columns, rows = _grid(people, width / height)
    cell = min(width / columns, height / rows)
    side = round(min(0.9 * cell / (1 + _SWAY), _TILE * _LARGEST))
    ground = _ground(width, height)
    clip = []
    for index in range(frames):
        image = ground.copy()
        for person in range(people):
            turn = 2 * np.pi * (index / frames + person / people)
            x = (person % columns + 0.5) * width / columns + _SWAY * side / _TILE * np.sin(turn)
            y = (person // columns + 0.5) * height / rows
            tile = tiles[person % len(tiles)]
            _paste(image, tile[(index + 7 * person) % len(tile)], (x, y), side)
        clip.append(np.asarray(image))
    return clip


def camera(name: str, clip: Sequence[Image], rate: float = RATE, phase: float = 0.0) -> LiveSource:
    """Return a live source that plays a clip at a rate, for ever, as a camera without a cable.

    Args:
        name: Name of the source.
        clip: Its images.
        rate: Frames per second.
        phase: Seconds before the first frame.
    """
    return LiveSource(name, _connect(clip, rate, phase))


def cameras(count: int, clip: Sequence[Image], rate: float = RATE) -> list[LiveSource]:
    """Return several cameras, whose frames come one after the other and not all at once."""
    return [camera(f"camera {i + 1}", clip, rate, i / count / rate) for i in range(count)]


def _connect(clip: Sequence[Image], rate: float, phase: float) -> Connect:
    def connect(stop: Event) -> Generator[Shot, None, None]:
        order = [*range(len(clip)), *range(len(clip) - 2, 0, -1)]
        start, index = time.monotonic() + phase, 0
        while not stop.wait(max(start + index / rate - time.monotonic(), 0)):
            yield Shot(clip[order[index % len(order)]], time.monotonic(), datetime.now(timezone.utc))
            index += 1

    return connect


@cache
def _tiles() -> list[list[Image]]:
    """Return images around each head of the demo over time."""
    frames = [frame.image for frame in read_demo(5)]
    tiles = []
    for x1, y1, x2, y2 in head_boxes():
        half = _TILE * max(x2 - x1, y2 - y1) / 2
        left, top = max(round((x1 + x2) / 2 - half), 0), max(round((y1 + y2) / 2 - half), 0)
        side = round(2 * half)
        tiles.append([np.asarray(image[top : top + side, left : left + side]) for image in frames])
    return tiles


def _grid(people: int, aspect: float) -> tuple[int, int]:
    """Return the columns and rows with the largest square cells."""
    choices = [(columns, -(-people // columns)) for columns in range(1, people + 1)]
    return max(choices, key=lambda grid: min(aspect / grid[0], 1 / grid[1]))


def _ground(width: int, height: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).normal(0, 3, (height, width, 3))
    return np.clip(np.linspace(60, 110, height)[:, None, None] + noise, 0, 255).astype(np.uint8)


def _paste(image: Image, tile: Image, center: tuple[float, float], side: int) -> None:
    """Draw a tile, shrunk to a side, as far as it lies within the image."""
    small = cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA)
    left, top = round(center[0] - side / 2), round(center[1] - side / 2)
    height, width = image.shape[:2]
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    image[y1:y2, x1:x2] = small[y1 - top : y2 - top, x1 - left : x2 - left]
