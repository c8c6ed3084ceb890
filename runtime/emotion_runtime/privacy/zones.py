"""Privacy zones: parts of an image that are filled before anything looks at it."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import with_home
from emotion_runtime.types import Frame

Point = tuple[float, float]  # x and y as fractions of the width and height of the image, from the top left
_FILL = (46, 42, 40)  # BGR; dark, so that it is recognised as filled
_EDGE = 3  # pixels by which the edges of a filled polygon are thickened, so that rounding leaves no gap
_EXPECTED = (
    "expected [SOURCE=]x1,y1,x2,y2 for a box, or the corners x1,y1,x2,y2,x3,y3... of a polygon, as fractions "
    "of the width and height of the image from 0 to 1"
)


@dataclass(frozen=True, slots=True)
class Zone:
    """A part of the images of a source that is not analysed and never leaves.

    Attributes:
        source: Name of the source; a folder or a pattern stands for all of its files. None: all sources.
        corners: Corners of a polygon, in order around it.
    """

    source: str | None
    corners: tuple[Point, ...]

    def covers(self, source: str) -> bool:
        """Return whether the zone is one of a source, however the path of either is written.

        A `*` stands for folders, too: a zone covers a file too many rather than one too few.
        """
        if self.source is None or source == self.source:
            return True
        name, wanted = os.path.normpath(source), os.path.normpath(self.source)
        patterns = (wanted, wanted.replace("**/", ""))
        return (
            name == wanted
            or name.startswith(f"{wanted}/")
            or (wanted == "." and not Path(name).is_absolute())
            or any(fnmatchcase(name, pattern) for pattern in patterns)
        )


def parse_zone(text: str) -> Zone:
    """Return a zone that is written as `[SOURCE=]x1,y1,x2,y2` or with the corners of a polygon.

    Raises:
        EmotionError: It is written in another way, lies outside of the image, or has no area.
    """
    source, separator, numbers = text.rpartition("=")
    try:
        values = [float(number) for number in numbers.split(",")]
    except ValueError:
        raise EmotionError(f"--zone {text}: {_EXPECTED}") from None
    if (separator and not source) or len(values) < 4 or len(values) % 2:
        raise EmotionError(f"--zone {text}: {_EXPECTED}")
    if not all(0 <= value <= 1 for value in values):  # also for values that are not numbers
        raise EmotionError(f"--zone {text}: a number is not from 0 to 1; {_EXPECTED}")
    corners = tuple(zip(values[::2], values[1::2], strict=True))
    if len(corners) == 2:
        (x1, y1), (x2, y2) = corners
        if x1 >= x2 or y1 >= y2:
            raise EmotionError(f"--zone {text}: the box is empty; expected x1 < x2 and y1 < y2")
        corners = (x1, y1), (x2, y1), (x2, y2), (x1, y2)
    elif _area(corners) == 0:
        raise EmotionError(f"--zone {text}: the polygon has no area; {_EXPECTED}")
    elif _crosses_itself(corners):
        raise EmotionError(
            f"--zone {text}: the edges of the polygon cross, so that it is not clear what is inside; give "
            "the corners in order around it, or several zones"
        )
    return Zone(with_home(source) or None, corners)


def check_zones(zones: Sequence[Zone], sources: Mapping[str, Sequence[str]]) -> None:
    """Reject a zone of a source that does not exist, since a mistyped name would leave a source open.

    Args:
        zones: The zones.
        sources: The sources of the run, as they are written, each with the names that its frames have.

    Raises:
        EmotionError: There is no source of this name.
    """
    for zone in zones:
        # Of the frames, since the text of a source may be another one than the name of its files.
        if not any(zone.covers(name) for names in sources.values() for name in names):
            raise EmotionError(
                f"--zone {zone.source}=...: there is no source of this name; expected one of "
                f"{', '.join(sources)}, or a zone without a name for all sources"
            )


class Zones:
    """Fills the zones of frames.

    Args:
        zones: The zones of all sources.
    """

    def __init__(self, zones: Sequence[Zone] = ()) -> None:
        self._zones = tuple(zones)

    def fill(self, frame: Frame) -> Frame:
        """Return a frame in which the zones of its source are filled; the frame itself without a zone."""
        image = self.filled(frame.image, frame.source)
        return frame if image is frame.image else replace(frame, image=image)

    def filled(self, image_bgr: NDArray[np.uint8], source: str) -> NDArray[np.uint8]:
        """Return a copy of an image (H, W, 3) in which the zones are filled; the image itself without one."""
        zones = [zone for zone in self._zones if zone.covers(source)]
        if not zones:
            return image_bgr
        canvas = image_bgr.copy()
        size = np.array([canvas.shape[1], canvas.shape[0]], np.float64)
        for zone in zones:
            corners = np.rint(np.asarray(zone.corners) * size).astype(np.int32)
            cv2.fillPoly(canvas, [corners], _FILL)
            cv2.polylines(canvas, [corners], isClosed=True, color=_FILL, thickness=_EDGE)
        return canvas


def _area(corners: Sequence[Point]) -> float:
    """Return twice the signed area; 0 for corners on one line."""
    pairs = zip(corners, [*corners[1:], corners[0]], strict=True)
    return math.fsum(a[0] * b[1] - b[0] * a[1] for a, b in pairs)


def _crosses_itself(corners: Sequence[Point]) -> bool:
    edges = list(zip(corners, [*corners[1:], corners[0]], strict=True))
    return any(_cross(*first, *second) for i, first in enumerate(edges) for second in edges[i + 1 :])


def _cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Return whether the lines from a to b and from c to d cross in a point that is no end of them."""
    return _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0


def _side(a: Point, b: Point, point: Point) -> float:
    return (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0])
