"""Draw the annotated frame: a box, a label and small bars for every person."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from emotion_runtime.errors import EmotionError
from emotion_runtime.inputs import check_image
from emotion_runtime.sinks import paint, text
from emotion_runtime.sinks.layout import Placer, Rect, body_of, face_of, leader
from emotion_runtime.sinks.paint import Image
from emotion_runtime.sinks.palette import INK, PAPER, QUIET, UNKNOWN, Color, color_of, text_on
from emotion_runtime.types import EmotionEvent, Person, Why

_PANEL = 0.72  # opacity of dark panels
_LOST = 0.55  # opacity of what is drawn for a lost person
_PANEL_BOX = 0.17  # minimum height of a box, in frame heights, for a panel of bars; smaller ones get a strip
_BAR = 3.4  # length of a bar, in sizes of text
_CROWD = 4  # with more persons than this, all get strips
_MANY = 8  # with more persons than this, lost ones get no label
_TEXT_OF_FACE = 0.2  # size of text, in face heights
_SIZES = (10, 11, 12, 13, 14, 16, 18, 20, 22, 25, 28, 31, 35, 39, 44, 49, 55, 62, 70)  # few, so that it stays
_SOURCES = 256  # that are remembered: every photo of a folder is one
_STEADY_SIZE = 0.12  # relative change of a face's size after which the size of its text may change

_CAPTIONS: dict[Why, str] = {
    "warming": "warming up",
    "small": "too small",
    "blurred": "blurred",
    "cut": "at the edge",
    "turned away": "turned away",
    "occluded": "covered",
    "uncertain": "unsure",
    "stale": "not seen",
}
Render = Callable[[Image, EmotionEvent], Image]


@dataclass(frozen=True, slots=True)
class _Style:
    """Sizes in pixels, for one size of text."""

    text: int

    @property
    def small(self) -> int:
        """Size of the text beside bars."""
        return max(round(0.8 * self.text), 9)

    @property
    def pad(self) -> int:
        """Space around text, height of a strip, and radius of corners."""
        return max(round(0.28 * self.text), 2)

    @property
    def line(self) -> int:
        """Thickness of lines."""
        return max(round(0.11 * self.text), 1)

    @property
    def label(self) -> int:
        """Height of a label."""
        return text.line_height(self.text) + 2 * max(self.pad // 3, 1)

    @property
    def row(self) -> int:
        """Height of one bar with its text."""
        return text.line_height(self.small) + 1


@dataclass(frozen=True, slots=True)
class _Subject:
    """A person to draw, with the box in whole pixels inside the frame. `key` is the id, if there is one."""

    person: Person
    key: int
    box: Rect
    style: _Style

    @property
    def color(self) -> Color:
        return UNKNOWN if self.person.top is None else color_of(self.person.top)

    @property
    def lost(self) -> bool:
        return self.person.state == "lost"

    @property
    def warming(self) -> bool:
        return self.person.top is None and self.person.why in (None, "warming")

    def caption(self, *, crowd: bool) -> str:
        """Return what the label says; in a crowd, the ring alone stands for "warming up"."""
        name = f"#{self.person.id} " if self.person.id else ""
        if crowd and self.warming and not self.lost:
            return name.strip()
        return name + _caption(self.person)

    @property
    def strip(self) -> Rect:
        """Place of the strip under the box."""
        return Rect(self.box.x, self.box.bottom + self.style.line + 1, self.box.w, self.style.pad)


class Annotator:
    """Draws annotated frames. It remembers where labels were, so that they do not jump between frames.

    A person has the colour of the shown emotion; a person without a label is slate, a lost person faint. What
    is written is `Person.top`, or the reason why there is none. Several sinks can share an annotator: a frame
    is drawn once.
    """

    def __init__(self) -> None:
        self._placers: dict[str, Placer] = {}  # by source
        self._last: tuple[Image, EmotionEvent, Image] | None = None

    def __call__(self, image_bgr: Image, event: EmotionEvent) -> Image:
        """Return an annotated copy of a frame, which must not be changed.

        Args:
            image_bgr: (H, W, 3) uint8 BGR.
            event: The event of the frame. Frames of a source must come in order of time.

        Returns:
            (H, W, 3) uint8 BGR.
        """
        if self._last is not None and self._last[0] is image_bgr and self._last[1] is event:
            return self._last[2]
        canvas = image_bgr.copy()
        height, width = canvas.shape[:2]
        placer = self._placers.pop(event.source, None)
        if placer is None or (placer.width, placer.height) != (width, height):
            placer = Placer(width, height)
        self._placers[event.source] = placer  # the newest one is the last one
        if len(self._placers) > _SOURCES:
            del self._placers[next(iter(self._placers))]
        keys = [person.id or -1 - index for index, person in enumerate(event.persons)]
        placer.begin(keys, event.t)
        pairs = zip(event.persons, keys, strict=True)
        subjects = [_subject(person, key, placer) for person, key in pairs]
        _draw_persons(canvas, subjects, placer)
        self._last = image_bgr, event, canvas
        return canvas


def _subject(person: Person, key: int, placer: Placer) -> _Subject:
    box = _pixels(person.box, placer.width, placer.height)
    face = face_of(box).h
    last = placer.text_sizes.get(key)
    if last is None or abs(face - last[0]) > _STEADY_SIZE * last[0]:
        last = placer.text_sizes[key] = face, _text_size(face, placer.height)
    return _Subject(person, key, box, _Style(last[1]))


def draw(image_bgr: Image, event: EmotionEvent) -> Image:
    """Return an annotated copy of a single frame, see `Annotator`.

    Raises:
        EmotionError: The image or the event is something else.
    """
    check_image(image_bgr)
    if not isinstance(event, EmotionEvent):
        raise EmotionError(
            f"the event is of type {type(event).__name__}; expected an EmotionEvent, as `step` and `stream` "
            "give it; for people of `look` use EmotionEvent(source='', frame=0, t=0.0, persons=people)"
        )
    return Annotator()(image_bgr, event)


def _text_size(face: int, height: int) -> int:
    """Return the size of text for a face of this height: readable in a crowd, and not huge in a close-up."""
    smallest, largest = max(10.0, 0.014 * height), max(13.0, 0.032 * height)
    wanted = min(max(_TEXT_OF_FACE * face, smallest), largest)
    return min(_SIZES, key=lambda size: abs(size - wanted))


def _draw_persons(canvas: Image, subjects: Sequence[_Subject], placer: Placer) -> None:
    present = [subject for subject in subjects if not subject.lost]
    lost = [subject for subject in subjects if subject.lost]
    for subject in lost:
        paint.frame(canvas, subject.box, subject.color, subject.style.line, _LOST)
    for subject in present:
        paint.frame(canvas, subject.box, subject.color, subject.style.line)
    faces = [face_of(subject.box) for subject in present]
    taken = list(faces)
    roomy = len(present) <= _CROWD
    # Labels are placed before bars, since they are more important.
    for subject in present:
        caption = subject.caption(crowd=not roomy)
        taken.append(_draw_label(canvas, subject, caption, taken, placer))
    for subject in present:
        if subject.person.emotions and (subject.person.top or subject.person.why == "uncertain"):
            bodies = [body_of(other.box) for other in present] if roomy else None
            taken.extend(_draw_bars(canvas, subject, taken, bodies, placer))
    if len(subjects) <= _MANY:
        for subject in lost:
            taken.append(_draw_label(canvas, subject, subject.caption(crowd=True), taken, placer))


def _caption(person: Person) -> str:
    if person.top is not None:
        probability = person.emotions.get(person.top)
        percent = "" if probability is None else f" {100 * probability:.0f}%"
        return f"{person.top}{percent}"
    if person.state == "lost":
        return "lost"
    return _CAPTIONS[person.why or "warming"]


def _draw_label(
    canvas: Image, subject: _Subject, caption: str, taken: Sequence[Rect], placer: Placer
) -> Rect:
    """Draw the label near the box, with a line to it if it had to go further away, and return its place."""
    style, person = subject.style, subject.person
    ring = style.text if subject.warming and not subject.lost else 0
    size = (text.width(caption, style.text) + ring + 2 * style.pad, style.label)
    place = placer.label(subject.key, subject.box, size, taken, style.line + style.pad + 2)
    ends = leader(place, subject.box)
    if ends is not None:
        paint.line(canvas, *ends, subject.color, style.line)
    known = person.top is not None
    # A label without an emotion is less prominent: dark and translucent like the panel of bars.
    opacity, background = (1.0, subject.color) if known else (_PANEL, INK)
    faint = _LOST if subject.lost else 1.0
    paint.plate(canvas, place, background, style.pad, opacity * faint)
    if ring:
        center = (place.x + style.pad + round(0.38 * style.text), place.y + place.h // 2)
        paint.ring(canvas, center, round(0.3 * style.text), person.filled)
    left_top = (place.x + style.pad + ring, place.y + (place.h - text.line_height(style.text)) // 2)
    paint.write(canvas, caption, left_top, style.text, text_on(background), faint)
    return place


def _draw_bars(
    canvas: Image,
    subject: _Subject,
    taken: Sequence[Rect],
    bodies: Sequence[Rect] | None,
    placer: Placer,
) -> list[Rect]:
    """Draw all emotions as bars in a fixed order, or, without space for them, as one divided strip.

    Args:
        canvas: The frame.
        subject: The person.
        taken: Rectangles that must stay visible.
        bodies: Bodies of all persons, which a panel should not cover. None: no panel.
        placer: Places of the source.

    Returns:
        What is covered now.
    """
    style, emotions = subject.style, subject.person.emotions
    if bodies is not None and subject.box.h >= _PANEL_BOX * placer.height:
        label_width = max(text.width(label, style.small) for label in emotions)
        size = (
            label_width + round(_BAR * style.text) + 4 * style.pad,
            len(emotions) * style.row + 2 * style.pad,
        )
        place = placer.panel(subject.key, subject.box, size, taken, bodies, style.pad)
        if place is not None:
            _draw_panel(canvas, subject, place, label_width)
            return [place]
    strip = subject.strip.inside(placer.width, placer.height)
    face = face_of(subject.box)
    if any(strip.overlap(other) for other in taken if other != face):
        return []
    _draw_strip(canvas, subject.person, strip)
    return [strip]


def _draw_panel(canvas: Image, subject: _Subject, place: Rect, label_width: int) -> None:
    style = subject.style
    paint.plate(canvas, place, INK, style.pad, _PANEL)
    left = place.x + label_width + 3 * style.pad
    full = place.right - style.pad - left
    for row, (label, probability) in enumerate(subject.person.emotions.items()):
        top = place.y + style.pad + row * style.row
        color = PAPER if label == subject.person.top else QUIET
        paint.write(canvas, label, (place.x + style.pad, top), style.small, color)
        bar = Rect(left, top + round(0.42 * style.small), full, max(round(0.45 * style.small), 2))
        paint.fill(canvas, bar, PAPER, 0.18)
        length = round(full * min(max(probability, 0.0), 1.0))
        paint.fill(canvas, Rect(bar.x, bar.y, length, bar.h), color_of(label))


def _draw_strip(canvas: Image, person: Person, place: Rect) -> None:
    """Divide the strip's width in proportion to the probabilities."""
    total = sum(person.emotions.values()) or 1.0
    edges = np.cumsum([0.0, *person.emotions.values()]) / total * place.w
    for label, start, stop in zip(person.emotions, edges[:-1], edges[1:], strict=True):
        left, right = place.x + round(start), place.x + round(stop)
        paint.fill(canvas, Rect(left, place.y, right - left, place.h), color_of(label))


def _pixels(box: tuple[float, float, float, float], width: int, height: int) -> Rect:
    x1, x2 = (min(max(round(x), 0), width - 1) for x in (box[0], box[2]))
    y1, y2 = (min(max(round(y), 0), height - 1) for y in (box[1], box[3]))
    return Rect(x1, y1, max(x2 - x1, 1), max(y2 - y1, 1))
