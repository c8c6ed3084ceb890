"""The annotated frame: what it shows, and what stays visible."""

import time
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from sample_events import EMOTIONS, event, frame, person

from emotion_runtime.sinks import paint, text
from emotion_runtime.sinks.draw import Annotator, draw
from emotion_runtime.sinks.layout import Placer, Rect
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


# --- places ---


def heads(rng: np.random.Generator, count: int, width: int, height: int) -> NDArray[np.float64]:
    """Return (count, 4) boxes of heads that do not overlap, x1, y1, x2, y2."""
    found: list[tuple[float, float, float, float]] = []
    while len(found) < count:
        size = rng.uniform(0.06, 0.3 if count <= 8 else 0.2) * height
        x, y = rng.uniform(0, width - 0.8 * size), rng.uniform(0.05 * height, height - size)
        box = (x, y, x + 0.8 * size, y + size)
        if all(
            min(box[2], o[2]) <= max(box[0], o[0]) or min(box[3], o[3]) <= max(box[1], o[1]) for o in found
        ):
            found.append(box)
    return np.array(found)


@pytest.mark.parametrize(
    ("count", "most_covering", "most_jumps"), [(5, 0, 0.5), (8, 0, 0.5), (15, 0.05, 0.8)]
)
@pytest.mark.parametrize("size", [(480, 270), (1920, 1080)])
def test_labels_and_panels_cover_nobody_and_do_not_jump(
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    most_covering: float,
    most_jumps: float,
    size: tuple[int, int],
) -> None:
    width, height = size
    plates: list[Rect] = []
    plate = paint.plate
    monkeypatch.setattr(paint, "plate", lambda *given: (plates.append(given[1]), plate(*given))[1])
    covering, jumps, frames = 0, 0, 25
    for seed in range(2):
        rng = np.random.default_rng(seed)
        base, annotate = heads(rng, count, width, height), Annotator()
        image = np.zeros((height, width, 3), np.uint8)
        before = np.zeros(0)
        for index in range(frames):  # a slow zoom, with the noise of a detector
            boxes = base * (1 + 0.002 * index) + rng.normal(0, 0.003 * height, base.shape)
            persons = [person(i + 1, (x1, y1, x2, y2)) for i, (x1, y1, x2, y2) in enumerate(boxes.tolist())]
            plates.clear()
            annotate(image, event(*persons, t=index / 25))
            faces = [Rect(round(x1), round(y1), round(x2 - x1), round(y2 - y1)) for x1, y1, x2, y2 in boxes]
            inner = [face.grown(-2) for face in faces]
            for i, place in enumerate(plates):
                others = [*inner, *plates[:i], *plates[i + 1 :]]
                covering += any(place.overlap(other) for other in others)
            now = np.array([(p.x - f.x, p.y - f.y) for p, f in zip(plates, faces, strict=False)])
            jumps += int((np.abs(now - before).max(axis=1) > 0.03 * height).sum()) if index else 0
            before = now
    assert covering <= most_covering * 2 * frames * count
    assert jumps <= most_jumps * 2 * (frames / 25) * count


def test_same_events_give_the_same_frames() -> None:
    events = [event(person(1, (50 + 3 * i, 60, 120 + 3 * i, 150)), t=i / 25) for i in range(10)]
    first, second = Annotator(), Annotator()
    for each in events:
        np.testing.assert_array_equal(first(frame().image, each), second(frame().image, each))


def test_label_moves_to_a_better_place_only_after_that_was_free_for_a_second() -> None:
    placer, box, size = Placer(400, 300), Rect(100, 100, 60, 80), (80, 20)
    someone = [Rect(90, 70, 100, 29)]  # above the box
    places = []
    for index in range(40):
        placer.begin([1], index / 10)
        taken = [box, *(someone if index < 5 else [])]
        places.append(placer.label(1, box, size, taken, 4))
    assert {place.overlap(box) for place in places} == {0}
    moves = [index for index in range(1, 40) if places[index] != places[index - 1]]
    assert moves == [15]
    assert places[-1] == Rect(100, 80, 80, 20)


def test_panel_lies_beside_the_head_and_on_the_chest_only_without_room_elsewhere() -> None:
    head, chest = Rect(200, 40, 80, 100), Rect(152, 140, 176, 200)
    placer = Placer(640, 360)
    placer.begin([1], 0.0)
    beside = placer.panel(1, head, (110, 90), [head], [chest], 4)
    assert beside is not None
    assert beside.overlap(chest) == beside.overlap(head) == 0
    narrow = Placer(290, 360)
    narrow.begin([1], 0.0)
    walls = [head, Rect(0, 0, 196, 360)]
    below = narrow.panel(1, Rect(200, 40, 80, 100), (80, 90), walls, [chest], 4)
    assert below is not None
    assert below.y > head.bottom
    assert narrow.panel(2, head, (300, 90), walls, [chest], 4) is None


def test_label_that_had_to_move_is_joined_to_its_box_by_a_line() -> None:
    box = (200.0, 100.0, 240.0, 150.0)
    around = [(x, y, x + 38.0, y + 46.0) for x in (118.0, 160.0, 202.0, 244.0, 286.0) for y in (52.0, 152.0)]
    around += [(x, 100.0, x + 38.0, 150.0) for x in (118.0, 158.0, 244.0, 286.0)]
    crowd = [person(i + 2, each, top=None) for i, each in enumerate(around)]
    given = frame().image
    drawn = draw(given, event(person(1, box, top="anger"), *crowd))
    red = (drawn == color_of("anger")).all(axis=2)
    outside = red.copy()
    outside[95:160, 195:246] = False
    assert outside.sum() > 100  # the label
    between = drawn[60:95, 195:246].astype(int)
    assert (between[..., 2] - between[..., 1] > 80).any(axis=1).all()  # the line


def test_lost_persons_take_no_longer_to_draw() -> None:
    boxes = [(x, y, x + 200.0, y + 260.0) for y in range(100, 2000, 400) for x in range(100, 3700, 450)]
    image = np.zeros((2160, 3840, 3), np.uint8)
    seconds: dict[State, float] = {}
    states: tuple[State, State] = ("steady", "lost")
    for state in states:
        given = event(*(person(i, box, state=state) for i, box in enumerate(boxes)))
        tries = []
        for _ in range(3):
            start = time.process_time()
            draw(image, given)
            tries.append(time.process_time() - start)
        seconds[state] = min(tries)
    assert seconds["lost"] <= 1.2 * seconds["steady"]


# --- colours and text ---


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
