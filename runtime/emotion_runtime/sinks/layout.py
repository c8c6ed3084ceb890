"""Where labels go: inside the frame, off the faces, off each other."""

from collections.abc import Sequence
from dataclasses import dataclass

BODY_ASPECT = 1.5  # a box this much taller than wide shows a body
_HEAD_OF_BODY = 0.22  # part of a body box, from its top, that the face is in


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of whole pixels: left, top, width, height."""

    x: int
    y: int
    w: int
    h: int

    @property
    def right(self) -> int:
        """First column outside."""
        return self.x + self.w

    @property
    def bottom(self) -> int:
        """First row outside."""
        return self.y + self.h

    def overlap(self, other: "Rect") -> int:
        """Pixels that both cover."""
        across = min(self.right, other.right) - max(self.x, other.x)
        down = min(self.bottom, other.bottom) - max(self.y, other.y)
        return max(across, 0) * max(down, 0)

    def inside(self, width: int, height: int) -> "Rect":
        """Slid into a frame; kept at its left top corner when it is larger."""
        x = max(min(self.x, width - self.w), 0)
        return Rect(x, max(min(self.y, height - self.h), 0), self.w, self.h)


def face_of(box: Rect) -> Rect:
    """The part of a person's box that must stay in sight: all of a head, the top of a body."""
    if box.h <= BODY_ASPECT * box.w:
        return box
    return Rect(box.x, box.y, box.w, round(box.h * _HEAD_OF_BODY))


def around(box: Rect, w: int, h: int, gap: int) -> list[Rect]:
    """Places for a plate of w x h next to a box, the best looking first."""
    center = box.x + (box.w - w) // 2
    return [
        Rect(center, box.bottom + gap, w, h),
        Rect(box.right + gap, box.y, w, h),
        Rect(box.x - gap - w, box.y, w, h),
        Rect(center, box.y - gap - h, w, h),
        Rect(center, box.bottom - gap - h, w, h),
    ]


def best_place(places: Sequence[Rect], taken: Sequence[Rect], width: int, height: int) -> tuple[Rect, float]:
    """The first of the places, slid into the frame, that covers least of what is taken.

    Returns the place and the part of it that lies over something taken.
    """
    slid = [place.inside(width, height) for place in places]
    covered = [sum(place.overlap(other) for other in taken) for place in slid]
    best = min(range(len(slid)), key=covered.__getitem__)
    return slid[best], covered[best] / max(slid[best].w * slid[best].h, 1)
