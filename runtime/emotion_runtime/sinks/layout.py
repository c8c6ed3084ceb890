"""Place labels inside the frame, without covering faces or each other."""

from collections.abc import Sequence
from dataclasses import dataclass

from emotion_runtime.preprocess import BODY_ASPECT

_HEAD_OF_BODY = 0.22  # fraction of a body box, from its top, that contains the face


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


def face_of(box: Rect) -> Rect:
    """Return the part of a person's box that must stay visible: all of a head, the top of a body."""
    if box.h <= BODY_ASPECT * box.w:
        return box
    return Rect(box.x, box.y, box.w, round(box.h * _HEAD_OF_BODY))


def around(box: Rect, w: int, h: int, gap: int) -> list[Rect]:
    """Return positions for a panel of w x h next to a box, best first."""
    center = box.x + (box.w - w) // 2
    return [
        Rect(center, box.bottom + gap, w, h),
        Rect(box.right + gap, box.y, w, h),
        Rect(box.x - gap - w, box.y, w, h),
        Rect(center, box.y - gap - h, w, h),
        Rect(center, box.bottom - gap - h, w, h),
    ]


def best_place(places: Sequence[Rect], taken: Sequence[Rect], width: int, height: int) -> tuple[Rect, float]:
    """Choose the place that covers the least of the taken rectangles.

    Args:
        places: Candidates, best first; they are moved into the frame.
        taken: Rectangles that should stay visible.
        width: Width of the frame in pixels.
        height: Height of the frame in pixels.

    Returns:
        The place, and the fraction of it that covers taken rectangles.
    """
    inside = [place.inside(width, height) for place in places]
    covered = [sum(place.overlap(other) for other in taken) for place in inside]
    best = min(range(len(inside)), key=covered.__getitem__)
    return inside[best], covered[best] / max(inside[best].w * inside[best].h, 1)
