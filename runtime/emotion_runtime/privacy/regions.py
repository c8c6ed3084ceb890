"""Which parts of an image show people, with margins for what a detector misses."""

from collections.abc import Sequence
from dataclasses import dataclass

from emotion_runtime.names import Blur
from emotion_runtime.preprocess import BODY_ASPECT
from emotion_runtime.types import Box, Detections, Track

# A region stays this long, in seconds and in detections, after the latest detection that belongs to it:
# detectors miss a person in single images.
HOLD_SECONDS, HOLD_DETECTIONS = 1.0, 3
_GROWTH, _MOST_GROWTH = 1.5, 1.0  # of a side per second meanwhile, in widths, for people who move
_SAME = 0.3  # intersection over union with a newer region from which on an older one is not needed
_MARGIN = 0.2  # on each side of a region, as a fraction of its sides
_UPPER = 0.5  # part of a standing person's box that is hidden as the face
# A person around a head, when only heads are detected: widths of the head to each side of its middle, and
# heights of it below its top.
_BODY_SIDE, _BODY_BELOW = 2.2, 8.0


@dataclass(frozen=True, slots=True)
class _Held:
    """A region that was hidden, and since when nothing was detected there.

    Attributes:
        box: The region without margin.
        t: Time of its latest detection, in seconds.
        missed: Number of detections since then that did not find it.
    """

    box: Box
    t: float
    missed: int


class PeopleRegions:
    """The regions of people in the images of one source.

    Args:
        blur: What is hidden: "faces" or "persons".
    """

    def __init__(self, blur: Blur) -> None:
        self._blur = blur
        self._held: list[_Held] = []

    def update(self, detections: Detections, expected: Sequence[Track], t: float) -> list[Box]:
        """Return what is to be hidden in an image in which people were detected.

        Args:
            detections: All detections in the image, however weak.
            expected: People who were not detected in it, where they are expected to be.
            t: Time of the image in seconds. An earlier one than before begins anew.

        Returns:
            Boxes with margins, which may reach beyond the image and overlap.
        """
        found = [detections.track(row, 0) for row in range(len(detections.scores))]
        now = [self._region(each) for each in found]
        self._held = [
            _Held(held.box, held.t, held.missed + 1)
            for held in self._held
            if not any(_same(held.box, box) for box in now)
            and t - held.t >= 0
            and (t - held.t <= HOLD_SECONDS or held.missed + 1 < HOLD_DETECTIONS)
        ]
        missed = [_grown(held.box, min(_GROWTH * (t - held.t), _MOST_GROWTH)) for held in self._held]
        self._held += [_Held(box, t, 0) for box in now]
        return [_with_margin(box) for box in (*now, *missed, *map(self._region, expected))]

    def rescale(self, x: float, y: float) -> None:
        """Multiply all positions, because the size of the images changed by these factors."""
        self._held = [
            _Held((h.box[0] * x, h.box[1] * y, h.box[2] * x, h.box[3] * y), h.t, h.missed) for h in self._held
        ]

    def _region(self, track: Track) -> Box:
        """Return the face or the whole of a person, without margin."""
        if self._blur == "faces":
            return _face(track)
        return track.box if track.head is None else _body(track.head)


def _face(track: Track) -> Box:
    """Return the head; the upper half of a standing person, and all of one who sits or lies."""
    if track.head is not None:
        return track.head
    x1, y1, x2, y2 = track.box
    standing = y2 - y1 > BODY_ASPECT * (x2 - x1)
    return x1, y1, x2, y1 + _UPPER * (y2 - y1) if standing else y2


def _body(head: Box) -> Box:
    x1, y1, x2, y2 = head
    middle, beyond = (x1 + x2) / 2, _BODY_SIDE * (x2 - x1)
    return middle - beyond, y1, middle + beyond, y1 + _BODY_BELOW * (y2 - y1)


def _with_margin(box: Box) -> Box:
    x, y = _MARGIN * (box[2] - box[0]), _MARGIN * (box[3] - box[1])
    return box[0] - x, box[1] - y, box[2] + x, box[3] + y


def _grown(box: Box, widths: float) -> Box:
    by = widths * (box[2] - box[0])
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def _same(a: Box, b: Box) -> bool:
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    if across <= 0 or down <= 0:
        return False
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return across * down > _SAME * (areas - across * down)
