"""Draw the annotated frame: a box, a label and small bars for every person."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.sinks.layout import Rect, around, best_place, face_of
from emotion_runtime.sinks.palette import INK, MUTED, PAPER, Color, color_of, text_on
from emotion_runtime.types import EmotionEvent, Person

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LABEL = 0.92  # opacity of a label
_PANEL = 0.72  # opacity of the dark panel behind the bars
_LOST = 0.6  # opacity of what is drawn for a lost person
_PANEL_BOX = 0.17  # minimum height of a box, in frame heights, for a panel of bars; smaller ones get a strip
_COVERING = 0.02  # a panel that covers people or labels with more than this fraction becomes a strip
_CROWD = 4  # with more persons than this, all get strips
_SHADOW = 0.35  # opacity of the shadow around a box
Point = tuple[int, int]
Image = NDArray[np.uint8]  # (H, W, 3) BGR
Render = Callable[[Image, EmotionEvent], Image]


@dataclass(frozen=True, slots=True)
class _Style:
    """Sizes in pixels, for one height of the frame."""

    text: int
    small: int
    pad: int
    line: int

    @property
    def label(self) -> int:
        """Height of a label."""
        return self.text + 2 * self.pad

    @property
    def row(self) -> int:
        """Height of one bar with its text."""
        return self.small + self.pad

    @property
    def strip(self) -> int:
        """Height of a strip."""
        return self.pad


def _style(height: int) -> _Style:
    # Less than proportional: a label must be readable on a small frame without being huge on a large one.
    unit = max((height / 270) ** 0.75, 0.8)
    return _Style(round(9 * unit), round(7.5 * unit), round(3 * unit), max(round(1.4 * unit), 1))


def draw(image_bgr: Image, event: EmotionEvent) -> Image:
    """Return an annotated copy of a frame.

    Labels stay inside the frame and do not cover faces if there is space elsewhere. A person has the colour
    of the shown emotion; a person without one is grey, a lost person faint.

    Args:
        image_bgr: (H, W, 3) uint8 BGR.
        event: The event of the frame.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    canvas = image_bgr.copy()
    height, width = canvas.shape[:2]
    style = _style(height)
    present = [person for person in event.persons if person.state != "lost"]
    boxes = [_pixels(person.box, width, height) for person in present]
    taken = [face_of(box) for box in boxes]
    for person in event.persons:
        if person.state == "lost":
            _draw_lost(canvas, person, style)
    for person, box in zip(present, boxes, strict=True):
        _frame(canvas, box, _color(person), style)
    # Labels are placed before bars, since they are more important.
    for person, box in zip(present, boxes, strict=True):
        taken.append(_draw_label(canvas, person, box, taken, style))
    roomy = len(present) <= _CROWD
    for person, box in zip(present, boxes, strict=True):
        if person.emotions:
            others = [other for other in boxes if other is not box] if roomy else []
            taken.append(_draw_bars(canvas, person, box, [*taken, *others], style, roomy=roomy))
    return canvas


def _color(person: Person) -> Color:
    return color_of(person.top) if person.top is not None and person.state == "steady" else MUTED


def _caption(person: Person) -> str:
    if person.state == "lost":
        return f"#{person.id} lost"
    if person.state == "warming" or not person.emotions:
        return f"#{person.id} warming up"
    if person.top is None:
        return f"#{person.id} unsure"
    return f"#{person.id} {person.top} {100 * person.emotions[person.top]:.0f}%"


def _draw_lost(canvas: Image, person: Person, style: _Style) -> None:
    height, width = canvas.shape[:2]
    box = _pixels(person.box, width, height)
    faint = canvas.copy()
    _frame(faint, box, MUTED, style)
    _draw_label(faint, person, box, [], style)
    cv2.addWeighted(faint, _LOST, canvas, 1 - _LOST, 0, dst=canvas)


def _draw_label(canvas: Image, person: Person, box: Rect, taken: Sequence[Rect], style: _Style) -> Rect:
    """Draw the label at the box's upper edge, and return its place."""
    height, width = canvas.shape[:2]
    caption, color = _caption(person), _color(person)
    size = (_text_width(caption, style.text) + 2 * style.pad, style.label)
    above, below = box.y - style.label, box.bottom + style.line + style.strip
    places = [
        Rect(x, y, *size) for y in (above, below) for x in (box.x, box.right - size[0], box.x - size[0] // 3)
    ]
    place, _ = best_place(places, [other for other in taken if other != face_of(box)], width, height)
    known = color is not MUTED
    whole = Rect(0, 0, place.w, place.h)
    # A label without an emotion is less prominent: dark and translucent like the panel of bars.
    opacity, background = (_LABEL, color) if known else (_PANEL, INK)
    _blend(canvas, place, opacity, lambda part: _rounded(part, whole, background, style.pad))
    _text(canvas, caption, (place.x + style.pad, place.y + style.pad), style.text, text_on(background))
    return place


def _draw_bars(
    canvas: Image, person: Person, box: Rect, taken: Sequence[Rect], style: _Style, *, roomy: bool
) -> Rect:
    """Draw all emotions as bars in a fixed order, or, without space for them, as one divided strip."""
    height, width = canvas.shape[:2]
    label_width = max(_text_width(label, style.small) for label in person.emotions)
    bar_width = round(4.5 * style.text)
    panel = (label_width + bar_width + 3 * style.pad, len(person.emotions) * style.row + style.pad)
    place, covered = best_place(around(box, *panel, gap=style.pad), taken, width, height)
    if roomy and box.h >= _PANEL_BOX * height and covered <= _COVERING:
        _draw_panel(canvas, person, place, label_width, style)
        return place
    strip = Rect(box.x, box.bottom + style.line, box.w, style.strip).inside(width, height)
    _draw_strip(canvas, person, strip)
    return strip


def _draw_panel(canvas: Image, person: Person, place: Rect, label_width: int, style: _Style) -> None:
    _blend(canvas, place, _PANEL, lambda part: _rounded(part, Rect(0, 0, place.w, place.h), INK, style.pad))
    left = place.x + label_width + 2 * style.pad
    full = place.right - style.pad - left
    for row, (label, probability) in enumerate(person.emotions.items()):
        top = place.y + style.pad + row * style.row
        color = PAPER if label == person.top else MUTED
        _text(canvas, label, (place.x + style.pad, top), style.small, color)
        bar = Rect(left, top + style.small // 4, full, max(style.small // 2, 2))
        _blend(canvas, bar, 0.18, lambda part: _fill(part, PAPER))
        length = round(full * min(max(probability, 0.0), 1.0))
        _fill(canvas[bar.y : bar.bottom, bar.x : bar.x + length], color_of(label))


def _draw_strip(canvas: Image, person: Person, place: Rect) -> None:
    """Divide the strip's width in proportion to the probabilities."""
    total = sum(person.emotions.values()) or 1.0
    edges = np.cumsum([0.0, *person.emotions.values()]) / total * place.w
    for label, start, stop in zip(person.emotions, edges[:-1], edges[1:], strict=True):
        part = canvas[place.y : place.bottom, place.x + round(start) : place.x + round(stop)]
        _fill(part, color_of(label))


def _pixels(box: tuple[float, float, float, float], width: int, height: int) -> Rect:
    x1, x2 = (min(max(round(x), 0), width - 1) for x in (box[0], box[2]))
    y1, y2 = (min(max(round(y), 0), height - 1) for y in (box[1], box[3]))
    return Rect(x1, y1, max(x2 - x1, 1), max(y2 - y1, 1))


def _frame(canvas: Image, box: Rect, color: Color, style: _Style) -> None:
    """Draw a thin box over a soft shadow, visible on light and on dark backgrounds."""
    reach = style.line + 1
    x, y = max(box.x - reach, 0), max(box.y - reach, 0)
    around_box = Rect(x, y, box.right + reach + 1 - x, box.bottom + reach + 1 - y)
    corners = (box.x - x, box.y - y), (box.right - x, box.bottom - y)
    _blend(canvas, around_box, _SHADOW, lambda part: _outline(part, corners, INK, style.line + 2))
    _outline(canvas[y:, x:], corners, color, style.line)


def _outline(part: Image, corners: tuple[Point, Point], color: Color, line: int) -> None:
    cv2.rectangle(part, *corners, color, line)


def _fill(part: Image, color: Color) -> None:
    part[:] = color


def _rounded(canvas: Image, rect: Rect, color: Color, radius: int) -> None:
    inner = rect.w - 2 * radius, rect.h - 2 * radius
    cv2.rectangle(canvas, (rect.x + radius, rect.y, inner[0], rect.h), color, cv2.FILLED)
    cv2.rectangle(canvas, (rect.x, rect.y + radius, rect.w, inner[1]), color, cv2.FILLED)
    for x in (rect.x + radius, rect.right - radius - 1):
        for y in (rect.y + radius, rect.bottom - radius - 1):
            cv2.circle(canvas, (x, y), radius, color, cv2.FILLED, cv2.LINE_AA)


def _blend(canvas: Image, rect: Rect, opacity: float, paint: Callable[[Image], None]) -> None:
    """Paint on a part of the canvas with the given opacity."""
    part = canvas[rect.y : rect.bottom, rect.x : rect.right]
    painted = part.copy()
    paint(painted)
    part[:] = cv2.addWeighted(painted, opacity, part, 1 - opacity, 0)


def _text_width(text: str, pixels: int) -> int:
    return int(cv2.getTextSize(text, _FONT, _font_scale(pixels), 1)[0][0])


def _text(canvas: Image, text: str, left_top: tuple[int, int], pixels: int, color: Color) -> None:
    baseline = (left_top[0], left_top[1] + pixels)
    cv2.putText(canvas, text, baseline, _FONT, _font_scale(pixels), color, 1, cv2.LINE_AA)


def _font_scale(pixels: int) -> float:
    """Return the scale at which a capital letter has this height, which differs between OpenCV 4 and 5."""
    return float(pixels / cv2.getTextSize("H", _FONT, 1.0, 1)[0][1])
