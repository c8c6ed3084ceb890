"""Paint shapes and text on a part of a frame; nothing here reads or writes pixels outside that part."""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.sinks import text
from emotion_runtime.sinks.layout import Rect
from emotion_runtime.sinks.palette import INK, PAPER, Color

Image = NDArray[np.uint8]  # (H, W, 3) BGR
_SHADOW = 0.35  # opacity of the shadow around lines
_SUBPIXEL = 4  # bits of the fractions of a pixel, for curves


def blend(canvas: Image, rect: Rect, opacity: float, paint: Callable[[Image], None]) -> None:
    """Paint on a part of the canvas with the given opacity."""
    part = canvas[max(rect.y, 0) : max(rect.bottom, 0), max(rect.x, 0) : max(rect.right, 0)]
    if not part.size:
        return
    painted = part.copy()
    paint(painted)
    part[:] = cv2.addWeighted(painted, opacity, part, 1 - opacity, 0)


def fill(canvas: Image, rect: Rect, color: Color, opacity: float = 1.0) -> None:
    """Fill a rectangle."""
    if opacity >= 1:
        canvas[max(rect.y, 0) : max(rect.bottom, 0), max(rect.x, 0) : max(rect.right, 0)] = color
    else:
        blend(canvas, rect, opacity, lambda part: part.__setitem__(slice(None), color))


def plate(canvas: Image, rect: Rect, color: Color, radius: int, opacity: float) -> None:
    """Fill a rectangle with round corners, which must lie inside the canvas unless it is larger."""

    def paint(part: Image) -> None:
        right, bottom = rect.w - radius - 1, rect.h - radius - 1
        cv2.rectangle(part, (radius, 0), (right, rect.h - 1), color, cv2.FILLED)
        cv2.rectangle(part, (0, radius), (rect.w - 1, bottom), color, cv2.FILLED)
        for x in (radius, right):
            for y in (radius, bottom):
                cv2.circle(part, (x, y), radius, color, cv2.FILLED, cv2.LINE_AA)

    blend(canvas, rect, opacity, paint)


def frame(canvas: Image, box: Rect, color: Color, line: int, opacity: float = 1.0) -> None:
    """Draw a thin box over a soft shadow, visible on light and on dark backgrounds."""
    for edge in _edges(box.grown(1), line + 2):
        fill(canvas, edge, INK, _SHADOW * opacity)
    for edge in _edges(box, line):
        fill(canvas, edge, color, opacity)


def _edges(box: Rect, line: int) -> list[Rect]:
    """Return the four edges of a box, which do not overlap."""
    return [
        Rect(box.x, box.y, box.w + 1, line),
        Rect(box.x, box.bottom - line + 1, box.w + 1, line),
        Rect(box.x, box.y + line, line, box.h - 2 * line + 1),
        Rect(box.right - line + 1, box.y + line, line, box.h - 2 * line + 1),
    ]


def write(
    canvas: Image, caption: str, left_top: tuple[int, int], pixels: int, color: Color, opacity: float = 1.0
) -> None:
    """Write a line of text; what reaches beyond the canvas is cut off."""
    mask = text.render(caption, pixels)  # (h, w)
    x, y = left_top
    part = canvas[y : y + mask.shape[0], x : x + mask.shape[1]]
    weight = mask[: part.shape[0], : part.shape[1], None].astype(np.float32) * (opacity / 255)
    part[:] = np.rint(part + (np.asarray(color, np.float32) - part) * weight).astype(np.uint8)


def ring(canvas: Image, center: tuple[int, int], radius: int, fraction: float, opacity: float = 1.0) -> None:
    """Draw a ring of which a fraction is filled, clockwise from the top."""
    line = max(round(0.45 * radius), 2)
    reach = radius + line
    area = Rect(center[0] - reach, center[1] - reach, 2 * reach + 1, 2 * reach + 1)
    middle = (reach << _SUBPIXEL, reach << _SUBPIXEL)
    axes = (radius << _SUBPIXEL, radius << _SUBPIXEL)

    def arc(part: Image, degrees: float) -> None:
        cv2.ellipse(part, middle, axes, -90, 0, degrees, PAPER, line, cv2.LINE_AA, _SUBPIXEL)

    blend(canvas, area, 0.25 * opacity, lambda part: arc(part, 360))
    if fraction > 0:
        blend(canvas, area, opacity, lambda part: arc(part, 360 * min(fraction, 1.0)))


def line(canvas: Image, start: tuple[int, int], stop: tuple[int, int], color: Color, thickness: int) -> None:
    """Draw a line over a soft shadow."""
    left, top = min(start[0], stop[0]) - thickness - 2, min(start[1], stop[1]) - thickness - 2
    left, top = max(left, 0), max(top, 0)
    right, bottom = max(start[0], stop[0]) + thickness + 2, max(start[1], stop[1]) + thickness + 2
    ends = (start[0] - left, start[1] - top), (stop[0] - left, stop[1] - top)
    area = Rect(left, top, right - left, bottom - top)
    blend(canvas, area, _SHADOW, lambda part: _stroke(part, ends, INK, thickness + 2))
    blend(canvas, area, 1.0, lambda part: _stroke(part, ends, color, thickness))


def _stroke(part: Image, ends: tuple[tuple[int, int], tuple[int, int]], color: Color, thickness: int) -> None:
    cv2.line(part, *ends, color, thickness, cv2.LINE_AA)
