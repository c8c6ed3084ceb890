"""The annotated frame: what it shows, and what stays visible."""

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from sample_events import EMOTIONS, event, frame, person

from emotion_runtime.sinks.draw import draw
from emotion_runtime.sinks.layout import Rect, best_place
from emotion_runtime.sinks.palette import color_of, text_on
from emotion_runtime.types import Person

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
    below = drawn[152:].reshape(-1, 3)
    pixels = {label: int((below == color_of(label)).all(axis=1).sum()) for label in EMOTIONS}
    # 1/14 + 1/2 against 1/14: eight times as long, up to a pixel of the few that short bars have.
    assert all(pixels["anger"] > 4 * pixels[label] > 0 for label in EMOTIONS[1:])


def test_small_person_gets_a_strip_divided_by_probability() -> None:
    given = frame()
    drawn = draw(given.image, event(person(1, (200, 100, 228, 130), top="sadness")))
    row = drawn[132, 200:228]
    fractions = {label: (row == color_of(label)).all(axis=1).sum() / 28 for label in EMOTIONS}
    for label in EMOTIONS:
        assert fractions[label] == pytest.approx(1 / 14 + 0.5 * (label == "sadness"), abs=1 / 28)


def test_warming_and_lost_persons_are_grey() -> None:
    given = frame()
    for state in ("warming", "lost"):
        drawn = draw(given.image, event(person(1, (200, 60, 280, 150), top="anger", state=state)))
        line = drawn[100, 195:206].astype(int)
        assert changed(given.image, drawn)[100, 195:206].any()
        assert (np.ptp(line, axis=1) <= 16).all()  # grey


def test_warming_person_is_shown_without_an_emotion() -> None:
    given = frame().image
    warming = person(1, (200, 100, 220, 125), state="warming")  # too small for a panel of bars
    other = msgspec.structs.replace(warming, top="fear")
    np.testing.assert_array_equal(draw(given, event(warming)), draw(given, event(other)))
    steady = [msgspec.structs.replace(each, state="steady") for each in (warming, other)]
    assert changed(draw(given, event(steady[0])), draw(given, event(steady[1]))).any()


def test_labels_are_placed_where_they_cover_least() -> None:
    taken = [Rect(0, 0, 50, 50)]
    free, covered = best_place([Rect(10, 10, 20, 20), Rect(60, 10, 20, 20)], taken, 100, 100)
    assert (free, covered) == (Rect(60, 10, 20, 20), 0)
    slid, covered = best_place([Rect(90, 90, 20, 20)], taken, 100, 100)
    assert (slid, covered) == (Rect(80, 80, 20, 20), 0)
    _, covered = best_place([Rect(40, 0, 20, 20)], taken, 100, 100)
    assert covered == 0.5


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
