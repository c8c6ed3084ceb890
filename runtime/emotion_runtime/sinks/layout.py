"""Place labels and panels inside the frame, without covering faces or each other, and without jumping."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.preprocess import BODY_ASPECT

_HEAD_OF_BODY = 0.22  # fraction of a body box, from its top, that contains the face
_CHEST = (
    0.6,
    2.0,
)  # how far shoulders reach beyond a head, in head widths; height of a chest, in head heights
_RINGS = 10  # how many plate heights a label may be away from its box
_PATIENCE = 1.0  # seconds for which a better place must have been free before a label moves to it
_BODY_COVERED = 0.35  # fraction of a panel that may lie on the bodies of others
_SAMPLES = np.linspace(0.0, 1.0, 9)[:, None]  # points of a leader line at which it is tested


Places = NDArray[np.int64]  # (N, 2) left and top


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of whole pixels: left, top, width, height."""

    x: int
    y: int
    w: int
    h: int

    @property
    def right(self) -> int:
        """First column outside of the rectangle."""
        return self.x + self.w

    @property
    def bottom(self) -> int:
        """First row outside of the rectangle."""
        return self.y + self.h

    def overlap(self, other: "Rect") -> int:
        """Return the number of pixels that both cover."""
        across = min(self.right, other.right) - max(self.x, other.x)
        down = min(self.bottom, other.bottom) - max(self.y, other.y)
        return max(across, 0) * max(down, 0)

    def inside(self, width: int, height: int) -> "Rect":
        """Move the rectangle into a frame; if it is larger, it starts at the frame's top left corner."""
        x = max(min(self.x, width - self.w), 0)
        return Rect(x, max(min(self.y, height - self.h), 0), self.w, self.h)

    def grown(self, by: int) -> "Rect":
        """Return the rectangle with a margin on all sides."""
        return Rect(self.x - by, self.y - by, self.w + 2 * by, self.h + 2 * by)


def face_of(box: Rect) -> Rect:
    """Return the part of a person's box that must stay visible: all of a head, the top of a body."""
    if box.h <= BODY_ASPECT * box.w:
        return box
    return Rect(box.x, box.y, box.w, round(box.h * _HEAD_OF_BODY))


def body_of(box: Rect) -> Rect:
    """Return where chest and hands are: below a head, or all of a body."""
    if box.h > BODY_ASPECT * box.w:
        return box
    beyond = round(_CHEST[0] * box.w)
    return Rect(box.x - beyond, box.bottom, box.w + 2 * beyond, round(_CHEST[1] * box.h))


def label_places(box: Rect, w: int, h: int, gap: int) -> Places:
    """Return positions for a label of w x h near a box, best first: touching it, then further away."""
    places: Places = _label_offsets(box.w, box.h, w, h, gap) + np.array([box.x, box.y])
    return places


def panel_places(box: Rect, w: int, h: int, gap: int) -> Places:
    """Return positions for a panel of w x h next to a box, best first: beside it, above it, below it."""
    center, middle = (box.w - w) // 2, (box.h - h) // 2
    sides = (box.w + gap, -gap - w)
    offsets = [(x, y) for y in (0, box.h - h, middle) for x in sides]
    offsets += [(center, -gap - h - away) for away in (0, 3 * gap, 6 * gap)]
    offsets += [(x, -h // 2) for x in sides]
    offsets += [(center, box.h + 3 * gap), (0, box.h + 3 * gap), (box.w - w, box.h + 3 * gap)]
    places: Places = np.array(offsets, np.int64) + np.array([box.x, box.y])
    return places


@lru_cache(maxsize=512)
def _label_offsets(box_w: int, box_h: int, w: int, h: int, gap: int) -> Places:
    columns = (0, box_w - w, (box_w - w) // 2)
    rows = (0, (box_h - h) // 2, box_h - h)
    places = [(x, y) for y in (-h, box_h + gap) for x in columns]
    places += [(x, y) for y in rows for x in (box_w + gap, -gap - w)]
    for ring in range(1, _RINGS + 1):
        away = ring * (h + gap)
        right, left = box_w + gap + away, -gap - away - w
        places += [(x, y) for y in (-h - away, box_h + gap + away) for x in (*columns, left, right)]
        places += [(x, y) for y in rows for x in (right, left)]
    return np.array(places, np.int64)


@dataclass(slots=True)
class _Kept:
    """Where something is, and since when a better place has been free."""

    slot: int
    better_since: float | None = None


class Placer:
    """Chooses a place for everything that is drawn beside a person, and keeps it from frame to frame.

    A place is kept relative to the person's box as long as it covers nothing; something moves to a better
    place only after that has been free for a while.

    Args:
        width: Width of the frame in pixels.
        height: Height of the frame in pixels.

    Attributes:
        text_sizes: Height of the face and size of the text, by person.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.text_sizes: dict[int, tuple[int, int]] = {}
        self._t = 0.0
        self._kept: dict[tuple[str, int], _Kept] = {}

    def begin(self, ids: Sequence[int], t: float) -> None:
        """Begin a frame at t seconds of media time, and drop what is kept for persons not among the ids."""
        self._t = t
        known = set(ids)
        self._kept = {key: kept for key, kept in self._kept.items() if key[1] in known}
        self.text_sizes = {key: size for key, size in self.text_sizes.items() if key in known}

    def label(self, person: int, box: Rect, size: tuple[int, int], taken: Sequence[Rect], gap: int) -> Rect:
        """Return the place of a label, which covers as little as possible of the taken rectangles.

        Args:
            person: Id of the person.
            box: The person's box.
            size: Width and height of the label.
            taken: Rectangles that must stay visible.
            gap: Pixels between the box and a label that is not above it.
        """
        places = self._inside(label_places(box, *size, gap), size)
        covered = _covered(places, size, taken)
        free = covered == 0
        if free.any():
            good = free & ~_crossing(places, size, free, box, taken)
            index = self._settle(("label", person), good, free)
        else:
            index = int(covered.argmin())
        return _rect(places[index], size)

    def panel(
        self,
        person: int,
        box: Rect,
        size: tuple[int, int],
        taken: Sequence[Rect],
        bodies: Sequence[Rect],
        gap: int,
    ) -> Rect | None:
        """Return the place of a panel, which covers nothing that is taken; None if there is no room for it.

        Args:
            person: Id of the person.
            box: The person's box.
            size: Width and height of the panel.
            taken: Rectangles that must stay visible.
            bodies: Bodies of all persons, which should stay visible. The person's own is covered only if
                there is no room elsewhere.
            gap: Pixels between the box and the panel.
        """
        if size[0] > self.width or size[1] > self.height:
            return None
        places = self._inside(panel_places(box, *size, gap), size)
        on_bodies = _covered(places, size, bodies)
        on_others = on_bodies - _covered(places, size, [body_of(box)])
        free = (_covered(places, size, taken) == 0) & (on_others <= _BODY_COVERED * size[0] * size[1])
        if not free.any():
            return None
        clear = free & (on_bodies <= _BODY_COVERED * size[0] * size[1])
        good = free & (on_bodies == 0)
        best = next((each for each in (good, clear) if each.any()), free)
        return _rect(places[self._settle(("panel", person), best, free)], size)

    def _inside(self, places: Places, size: tuple[int, int]) -> Places:
        """Move places into the frame; what is larger than the frame starts at its top left corner."""
        room = np.array([self.width - size[0], self.height - size[1]]).clip(0)
        return places.clip(0, room)

    def _settle(self, key: tuple[str, int], good: NDArray[np.bool_], free: NDArray[np.bool_]) -> int:
        """Return the index of the place to use: the kept one while it is free, else the best one."""
        best = int((good if good.any() else free).argmax())
        kept = self._kept.get(key)
        if kept is None or kept.slot >= len(free) or not free[kept.slot]:
            self._kept[key] = _Kept(best)
            return best
        if best >= kept.slot:
            kept.better_since = None
        elif kept.better_since is None or self._t < kept.better_since:
            kept.better_since = self._t
        elif self._t - kept.better_since >= _PATIENCE:
            self._kept[key] = _Kept(best)
        return self._kept[key].slot


def _covered(places: Places, size: tuple[int, int], taken: Sequence[Rect]) -> NDArray[np.int64]:
    """Return how many pixels of the taken rectangles each place covers, (N,)."""
    others = _corners(taken)  # (M, 4)
    start = np.maximum(places[:, None], others[:, :2])  # (N, M, 2)
    stop = np.minimum(places[:, None] + size, others[:, 2:])
    covered: NDArray[np.int64] = (stop - start).clip(0).prod(axis=2).sum(axis=1)
    return covered


def _crossing(
    places: Places, size: tuple[int, int], free: NDArray[np.bool_], box: Rect, taken: Sequence[Rect]
) -> NDArray[np.bool_]:
    """Return for each place whether its leader line would cross something that is taken.

    Only the free places up to the first one without a crossing are tested, since later ones are worse.
    """
    crossing = np.zeros(len(places), bool)
    others = _corners([other for other in taken if other.overlap(box) == 0])
    for index in np.flatnonzero(free):
        ends = leader(_rect(places[index], size), box)
        if ends is None:
            break
        points = np.asarray(ends[0]) * (1 - _SAMPLES) + np.asarray(ends[1]) * _SAMPLES  # (S, 2)
        within = (points[:, None] >= others[:, :2]) & (points[:, None] < others[:, 2:])
        crossing[index] = within.all(axis=2).any()
        if not crossing[index]:
            break
    return crossing


def _rect(left_top: NDArray[np.int64], size: tuple[int, int]) -> Rect:
    return Rect(int(left_top[0]), int(left_top[1]), *size)


def leader(place: Rect, box: Rect) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return the ends of the shortest line from a place to a box; None if the place is next to the box."""
    x, other_x = _nearest(place.x, place.right, box.x, box.right)
    y, other_y = _nearest(place.y, place.bottom, box.y, box.bottom)
    if max(abs(x - other_x), abs(y - other_y)) <= place.h // 2:
        return None
    return (x, y), (other_x, other_y)


def _nearest(start: int, stop: int, other_start: int, other_stop: int) -> tuple[int, int]:
    """Return the nearest points of two intervals; where they overlap, the middle of the common part."""
    if stop <= other_start:
        return stop, other_start
    if other_stop <= start:
        return start, other_stop
    middle = (max(start, other_start) + min(stop, other_stop)) // 2
    return middle, middle


def _corners(rects: Sequence[Rect]) -> NDArray[np.int64]:
    return np.array([(rect.x, rect.y, rect.right, rect.bottom) for rect in rects], np.int64).reshape(-1, 4)
