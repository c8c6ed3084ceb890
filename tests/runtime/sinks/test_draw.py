"""The annotated frame: what it shows, in which colours and letters."""

from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from sample_events import EMOTIONS, event, frame, person

from emotion_runtime.sinks import draw as draw_module
from emotion_runtime.sinks import paint, text
from emotion_runtime.sinks.draw import Annotator, draw
from emotion_runtime.sinks.palette import UNKNOWN, color_of, text_on
from emotion_runtime.types import Person, State, Why

SIZES = [(480, 270), (641, 361), (1920, 1080), (120, 90)]


def changed(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (before != after).any(axis=2)


@pytest.mark.parametrize("size", SIZES)
def test_drawing_keeps_the_shape_and_does_not_change_the_frame(size: tuple[int, int]) -> None:
    given = frame(size=size)
    w, h = size
    crowd = [
        person(1, (0.1 * w, 0.2 * h, 0.3 * w, 0.6 * h)),
        person(2, (-50.0, -20.0, 0.1 * w, 0.2 * h), top=None),  # off the edge
        person(3, (0.95 * w, 0.9 * h, 2.0 * w, 3.0 * h), top="fear", state="lost"),
        person(4, (0.5 * w, 0.5 * h, 0.5 * w, 0.5 * h), state="warming"),  # empty
        Person(id=5, box=(5 * w, 5 * h, 6 * w, 6 * h), score=0.5, state="warming", why="warming"),  # outside
    ]
    copy = given.image.copy()
    drawn = draw(given.image, event(*crowd))
    assert drawn.shape == given.image.shape
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(given.image, copy)
    assert changed(copy, drawn).any()


def test_memory_does_not_grow_with_the_number_of_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each photo is a source of its own, and the run keeps one annotator for all of them."""
    monkeypatch.setattr(draw_module, "_SOURCES", 3)
    annotate, image = Annotator(), np.zeros((90, 120, 3), np.uint8)
    for index in range(8):
        photo = event(person(index + 1, (20, 10, 60, 50), top=None))
        annotate(image, msgspec.structs.replace(photo, source=f"{index}.jpg"))
    assert list(annotate._placers) == ["5.jpg", "6.jpg", "7.jpg"]
    assert [list(placer.text_sizes) for placer in annotate._placers.values()] == [[6], [7], [8]]


def test_frame_without_persons_is_unchanged() -> None:
    given = frame()
    np.testing.assert_array_equal(draw(given.image, event()), given.image)


@pytest.mark.parametrize("size", SIZES[:3])
def test_faces_close_together_stay_visible(size: tuple[int, int]) -> None:
    w, h = size
    heads = [
        (x * w, y * h, (x + 0.15) * w, (y + 0.35) * h) for x, y in ((0.2, 0.3), (0.37, 0.25), (0.54, 0.3))
    ]
    given = frame(size=size)
    drawn = draw(given.image, event(*(person(i, box) for i, box in enumerate(heads))))
    for x1, y1, x2, y2 in heads:
        margin = 0.02 * h
        rows = slice(round(y1 + margin), round(y2 - margin))
        columns = slice(round(x1 + margin), round(x2 - margin))
        assert not changed(given.image, drawn)[rows, columns].any()


def test_colour_of_the_box_and_lengths_of_the_bars() -> None:
    given = frame()
    drawn = draw(given.image, event(person(1, (200, 60, 280, 150), top="anger")))
    assert tuple(int(value) for value in drawn[100, 200]) == color_of("anger")
    beside = np.delete(drawn, np.s_[195:310], axis=1).reshape(-1, 3)  # without the box and its label
    pixels = {label: int((beside == color_of(label)).all(axis=1).sum()) for label in EMOTIONS}
    # 1/14 + 1/2 against 1/14: eight times as long, up to a pixel of the few that short bars have.
    assert all(pixels["anger"] > 4 * pixels[label] > 0 for label in EMOTIONS[1:])


def test_small_person_gets_a_strip_divided_by_probability() -> None:
    given = frame()
    drawn = draw(given.image, event(person(1, (200, 100, 228, 130), top="sadness")))
    row = drawn[132, 200:228]
    fractions = {label: (row == color_of(label)).all(axis=1).sum() / 28 for label in EMOTIONS}
    for label in EMOTIONS:
        assert fractions[label] == pytest.approx(1 / 14 + 0.5 * (label == "sadness"), abs=1 / 28)


def test_person_without_a_label_has_the_colour_of_none() -> None:
    given = frame()
    states: tuple[State, ...] = ("warming", "steady", "lost", "new")
    for state in states:
        drawn = draw(given.image, event(person(1, (200, 60, 280, 150), top=None, state=state)))
        line = drawn[100, 200].astype(int)
        assert np.abs(line - (UNKNOWN if state != "lost" else line)).max() <= 1
        assert np.ptp(line) <= 30  # nearly grey
        assert changed(given.image, drawn)[100, 200]


def texts(monkeypatch: pytest.MonkeyPatch, *persons: Person) -> list[str]:
    """Return the texts that are written when the persons are drawn."""
    written: list[str] = []
    write = paint.write

    def record(canvas: NDArray[np.uint8], caption: str, *rest: Any) -> None:
        written.append(caption)
        write(canvas, caption, *rest)

    monkeypatch.setattr(paint, "write", record)
    draw(frame().image, event(*persons))
    monkeypatch.undo()
    return written


@pytest.mark.parametrize("state", ["new", "warming", "steady", "lost", "photo"])
def test_label_that_is_written_is_the_one_of_the_event(monkeypatch: pytest.MonkeyPatch, state: State) -> None:
    box = (200, 100, 220, 125)  # too small for a panel of bars
    assert texts(monkeypatch, person(1, box, top="fear", state=state)) == ["#1 fear 57%"]
    (without,) = texts(monkeypatch, person(1, box, top=None, state=state))
    assert not any(label in without for label in EMOTIONS)
    assert without == ("#1 lost" if state == "lost" else "#1 unsure")


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("warming", "warming up"),
        ("small", "too small"),
        ("blurred", "blurred"),
        ("cut", "at the edge"),
        ("turned away", "turned away"),
        ("occluded", "covered"),
        ("uncertain", "unsure"),
        ("stale", "not seen"),
    ],
)
def test_reason_why_there_is_no_label_is_written(
    monkeypatch: pytest.MonkeyPatch, why: Why, words: str
) -> None:
    one = msgspec.structs.replace(person(7, (200, 100, 220, 125), top=None), why=why)
    assert texts(monkeypatch, one) == [f"#7 {words}"]


def test_warming_person_has_a_ring_that_fills_and_no_bars() -> None:
    given = frame().image
    one = msgspec.structs.replace(person(1, (200, 60, 280, 150), top=None, state="warming"), why="warming")
    light = []
    for filled in (0.0, 0.25, 0.5, 1.0):
        drawn = draw(given, event(msgspec.structs.replace(one, filled=filled)))
        light.append(int(drawn[30:60, 195:330].astype(int).sum()))
        pixels = drawn.reshape(-1, 3)
        for label in EMOTIONS:
            assert not (pixels == color_of(label)).all(axis=1).any()  # neither a panel nor a strip
    steps = np.diff(light)
    assert (steps > 0).all()
    assert steps[2] == pytest.approx(2 * steps[1], rel=0.25)  # half a turn and a quarter


def test_neutral_and_no_label_differ_clearly() -> None:
    colors = np.array([[color_of("neutral"), UNKNOWN]], np.uint8)
    neutral, unknown = cv2.cvtColor(colors.astype(np.float32) / 255, cv2.COLOR_BGR2LAB)[0]
    assert np.linalg.norm(neutral - unknown) > 25  # 2.3 is just noticeable


def test_text_follows_the_size_of_the_face_within_limits() -> None:
    def size(face: int, height: int) -> int:
        plates = draw(
            frame(size=(2 * height, height)).image, event(person(1, (50, 90, 50 + face, 90 + face)))
        )
        rows = (plates == color_of("happiness")).all(axis=2).any(axis=1)
        return int(np.argmax(rows))  # the label is above the box: the higher, the larger

    tops = [size(face, 1080) for face in (30, 100, 150, 600)]
    assert tops == sorted(tops, reverse=True)
    assert 90 - tops[0] >= 15  # readable
    assert 90 - tops[-1] <= 50  # not huge


@pytest.mark.parametrize("label", ["Ärger", "Радость", "χαρά", "喜悦", "怒り"])
def test_labels_of_any_script_are_readable(label: str, caplog: pytest.LogCaptureFixture) -> None:
    masks = [text.render(character, 20) for character in label]
    if caplog.records:
        pytest.skip("no font on this machine has this script")
    missing = text.render("\U0010fffd", 20)
    assert all(mask.any() and not np.array_equal(mask, missing) for mask in masks)
    assert text.render(label, 20).shape == (text.line_height(20), text.width(label, 20))


def test_script_without_a_font_is_reported_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "_system_fonts", list)
    monkeypatch.delattr(cv2, "FontFace", raising=False)  # as OpenCV 4
    text._renderer.cache_clear()
    text.render.cache_clear()
    try:
        for pixels in (12, 14, 12):
            assert text.render("喜悦", pixels).any()
    finally:
        text._renderer.cache_clear()
        text.render.cache_clear()
    (record,) = caplog.records
    assert "install a font" in record.getMessage()


def test_colours_are_distinct_and_text_on_them_is_readable() -> None:
    labels = [*EMOTIONS, "contempt", "boredom"]
    colors = np.array([color_of(label) for label in labels], int)
    distance = np.abs(colors[:, None] - colors[None]).sum(axis=2) + 999 * np.eye(len(labels), dtype=int)
    assert distance.min() > 60
    for label in labels:
        assert contrast(color_of(label), text_on(color_of(label))) >= 3  # WCAG 2.1, 1.4.11


def contrast(*colors: tuple[int, int, int]) -> float:
    """Return the contrast ratio of two BGR colours, from relative luminance. Source: WCAG 2.1."""
    light = []
    for color in colors:
        linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in np.array(color) / 255]
        light.append(float(np.dot(linear, [0.0722, 0.7152, 0.2126])))
    return (max(light) + 0.05) / (min(light) + 0.05)
