"""Compose scenes of real people whose places are known: cuts, swaps, a seat, a pillar, crossings."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.detectors import Detector
from emotion_runtime.tracker import Tracker
from emotion_runtime.types import Box, Frame
from emotion_train.scenes.faces import Faces

WIDTH, HEIGHT, RATE = 480, 270, 25
HEAD = 64.0  # width of a head, pixels
_TILE_HEADS = 2.0  # side of the part of an image that is shown around a head, in head widths
_TILE = 128  # its side, pixels
_SOFT = 10  # width of its soft edge, pixels
_ALWAYS_THERE = 0.9  # fraction of a video's frames in which its people are found
_LIGHT_SECONDS, _LEAN_SECONDS, _LEAN = 11.0, 7.0, 0.2  # periods; how much a head grows when somebody leans
_FACE_MARGIN = 1.15  # width of a head, of the face images of FER2013, which are cropped to the face


@dataclass(frozen=True)
class Actor:
    """A person who can be placed in scenes.

    Attributes:
        name: Name of the person.
        tiles: Images (N, T, T, 3) uint8 BGR around the head.
        boxes: Box of the head in each of them, in its pixels, (N, 4).
        rate: Images per second; they are shown forwards and backwards.
    """

    name: str
    tiles: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    rate: float

    def at(self, t: float) -> int:
        """Return the index of the image of time t."""
        last = len(self.tiles) - 1
        position = int(t * self.rate) % max(2 * last, 1)
        return min(position, 2 * last - position)


@dataclass(frozen=True)
class Placed:
    """A person at one time.

    Attributes:
        actor: The person.
        x: Centre of the head, pixels.
        y: Centre of the head, pixels.
        hidden: Somebody in front hides the head.
        size: Width of the head, relative to `HEAD`.
    """

    actor: Actor
    x: float
    y: float
    hidden: bool = False
    size: float = 1.0


@dataclass(frozen=True)
class Scene:
    """A scene.

    Attributes:
        kind: Kind of the scene.
        seconds: Its length.
        people: Who is where at time t; whoever is listed last is in front.
        background: The image behind them (H, W, 3) uint8 BGR at time t.
        changes: Times at which somebody takes the place of somebody else, ascending.
        occluder: Left and right edge of a pillar in front of everybody, pixels.
        light: How much the brightness sways, relative to its mean.
    """

    kind: str
    seconds: float
    people: Callable[[float], list[Placed]]
    background: Callable[[float], NDArray[np.uint8]]
    changes: tuple[float, ...] = ()
    occluder: tuple[float, float] | None = None
    light: float = 0.0

    def frames(self, rate: float = RATE) -> Iterator[tuple[Frame, list[tuple[str, Box]]]]:
        """Yield frames with the names and head boxes of the people who can be seen in them."""
        for index in range(round(self.seconds * rate)):
            t = index / rate
            image = self.background(t).copy()
            seen: list[tuple[str, Box]] = []
            for placed in self.people(t):
                box = _draw(image, placed, t)
                if not placed.hidden and box[0] >= 0 and box[2] <= WIDTH and not self._covers(box):
                    seen.append((placed.actor.name, box))
            if self.occluder:
                image[:, round(self.occluder[0]) : round(self.occluder[1])] = (70, 80, 90)
            if self.light:
                gain = 1 + self.light * math.sin(2 * math.pi * t / _LIGHT_SECONDS)
                image = np.clip(image * np.float32(gain), 0, 255).astype(np.uint8)
            yield Frame(image, index, t, self.kind), seen

    def _covers(self, box: Box) -> bool:
        if not self.occluder:
            return False
        covered = min(box[2], self.occluder[1]) - max(box[0], self.occluder[0])
        return covered > 0.3 * (box[2] - box[0])


def filmed(name: str, frames: Sequence[Frame], detector: Detector) -> list[Actor]:
    """Return the people of a video in which everybody is visible from the first frame to the last."""
    tracker = Tracker()
    tiles: dict[int, list[NDArray[np.uint8]]] = {}
    boxes: dict[int, list[NDArray[np.float64]]] = {}
    for frame in frames:
        for track in tracker.update(detector(frame.image), frame.t):
            x1, y1, x2, y2 = track.box
            scale = _TILE / (_TILE_HEADS * (x2 - x1))
            shift = _TILE / 2 - scale * np.array([(x1 + x2) / 2, (y1 + y2) / 2])
            matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
            tile = cv2.warpAffine(
                frame.image, matrix, (_TILE, _TILE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            tiles.setdefault(track.id, []).append(np.asarray(tile, np.uint8))
            boxes.setdefault(track.id, []).append(
                np.array([x1, y1, x2, y2]) * scale + np.concatenate([shift, shift])
            )
    rate = 1 / float(np.median(np.diff([frame.t for frame in frames])))
    return [
        Actor(f"{name} {i}", np.array(tiles[i]), np.array(boxes[i]), rate)
        for i in tiles
        if len(tiles[i]) > _ALWAYS_THERE * len(frames)
    ]


def photographed(faces: Faces, rows: Sequence[int]) -> list[Actor]:
    """Return one person per face image."""
    middle, border, half = _TILE / 2, _TILE // 4, _TILE / 4 * _FACE_MARGIN
    box = np.array([[middle - half, middle - half, middle + half, middle + half]])
    actors = []
    for row in rows:
        face = cv2.resize(faces.images[row], (_TILE // 2, _TILE // 2), interpolation=cv2.INTER_CUBIC)
        tile = cv2.copyMakeBorder(face, border, border, border, border, cv2.BORDER_REFLECT)
        colored = np.asarray(cv2.cvtColor(tile, cv2.COLOR_GRAY2BGR), np.uint8)
        actors.append(Actor(f"face {row}", colored[None], box, 1.0))
    return actors


def _draw(image: NDArray[np.uint8], placed: Placed, t: float) -> Box:
    """Draw a person into an image, and return the box of the head."""
    index = placed.actor.at(t)
    box = placed.actor.boxes[index]
    scale = placed.size * HEAD / (box[2] - box[0])
    x = placed.x + 3 * math.sin(1.7 * t) - scale * (box[0] + box[2]) / 2
    y = placed.y + 2 * math.sin(2.3 * t) - scale * (box[1] + box[3]) / 2
    x1, y1, x2, y2 = box * scale + (x, y, x, y)
    left, top, side = math.floor(x), math.floor(y), math.ceil(scale * _TILE) + 1
    columns = slice(max(left, 0), max(min(left + side, WIDTH), 0))
    rows = slice(max(top, 0), max(min(top + side, HEIGHT), 0))
    part = image[rows, columns]
    if part.size:
        matrix = np.array([[scale, 0, x - columns.start], [0, scale, y - rows.start]])
        tile = placed.actor.tiles[index].astype(np.float32)
        layer = np.concatenate([tile * _soft()[..., None], _soft()[..., None]], axis=2)
        drawn = cv2.warpAffine(layer, matrix, part.shape[1::-1], flags=cv2.INTER_LINEAR)
        part[:] = np.clip(part * (1 - drawn[..., 3:]) + drawn[..., :3], 0, 255).astype(np.uint8)
    return float(x1), float(y1), float(x2), float(y2)


@functools.cache
def _soft() -> NDArray[np.float32]:
    """Return the opacity of a tile, (T, T): 1 inside, 0 at the edge."""
    edge = np.minimum(np.arange(_TILE) + 0.5, _TILE - np.arange(_TILE) - 0.5) / _SOFT
    ramp = np.clip(edge, 0, 1).astype(np.float32)
    return np.asarray(ramp[:, None] * ramp[None, :])


def cuts(
    first: Actor, second: Actor, rooms: Sequence[NDArray[np.uint8]], shift: float, seconds: float
) -> Scene:
    """Two people alternate by hard cuts every 2 seconds, in one room or in two, `shift` heads apart."""

    def turn(t: float) -> int:
        return int((t + 1e-9) / 2) % 2

    return Scene(
        "cuts in one room" if len(rooms) == 1 else "cuts between rooms",
        seconds,
        lambda t: [Placed((first, second)[turn(t)], WIDTH / 2 + turn(t) * shift * HEAD, HEIGHT / 2)],
        lambda t: rooms[turn(t) % len(rooms)],
        tuple(np.arange(2.0, seconds, 2.0).tolist()),
    )


def swap(first: Actor, second: Actor, room: NDArray[np.uint8]) -> Scene:
    """Two people beside each other change places from one frame to the next, every 3 seconds."""

    def people(t: float) -> list[Placed]:
        left, right = (first, second) if int((t + 1e-9) / 3) % 2 == 0 else (second, first)
        return [Placed(left, 0.3 * WIDTH, HEIGHT / 2), Placed(right, 0.7 * WIDTH, HEIGHT / 2)]

    return Scene("swaps", 9, people, lambda _: room, (3.0, 6.0))


def seat(first: Actor, second: Actor, room: NDArray[np.uint8]) -> Scene:
    """Somebody stands up and leaves; 0.9 seconds later somebody else sits down in the same place."""

    def people(t: float) -> list[Placed]:
        center = Placed(first, WIDTH / 2, HEIGHT / 2)
        if t < 3:
            return [center]
        if t < 3.9:
            return []
        return [Placed(second, WIDTH / 2, HEIGHT / 2)]

    return Scene("seat", 7, people, lambda _: room, (3.9,))


def pillar(first: Actor, second: Actor, room: NDArray[np.uint8]) -> Scene:
    """Somebody walks behind a pillar; 0.8 seconds later somebody else comes out."""
    speed, left, right = 2 * HEAD, WIDTH / 2 - 0.6 * HEAD, WIDTH / 2 + 0.6 * HEAD

    def people(t: float) -> list[Placed]:
        x = 0.1 * WIDTH + speed * t
        if x < WIDTH / 2:
            return [Placed(first, x, HEIGHT / 2)]
        return [Placed(second, x, HEIGHT / 2)]

    middle = (0.4 * WIDTH) / speed
    return Scene("pillar", 3, people, lambda _: room, (middle + 0.4,), (left, right))


def crossing(first: Actor, second: Actor, room: NDArray[np.uint8]) -> Scene:
    """Two people walk past each other; the one behind is hidden for a moment."""
    speed = 1.0 * HEAD

    def people(t: float) -> list[Placed]:
        a, b = 0.1 * WIDTH + speed * t, 0.9 * WIDTH - speed * t
        hidden = abs(a - b) < 0.6 * HEAD
        return [Placed(second, b, HEIGHT / 2 + 8, hidden), Placed(first, a, HEIGHT / 2 - 8)]

    return Scene("crossing", 5.8, people, lambda _: room)


def together(people: Sequence[Actor], room: NDArray[np.uint8], seconds: float) -> Scene:
    """People stay, lean forward and back, and the light sways: nobody takes anybody's place."""

    def placed(t: float) -> list[Placed]:
        return [
            Placed(
                actor,
                (i + 0.5) / len(people) * WIDTH,
                HEIGHT / 2,
                size=1 + _LEAN * math.sin(2 * math.pi * t / _LEAN_SECONDS + i),
            )
            for i, actor in enumerate(people)
        ]

    return Scene("continuous", seconds, placed, lambda _: room, light=0.2)


def rooms(count: int, seed: int) -> list[NDArray[np.uint8]]:
    """Return backgrounds (H, W, 3) uint8 BGR: large blurred patches of random colours, with some texture."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        patches = rng.uniform(20, 235, (4, 6, 3)).astype(np.float32)
        image = cv2.resize(patches, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        made.append(np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8))
    return made
