"""Where labels and panels lie: they cover nobody, and do not jump."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from sample_events import event, frame, person

from emotion_runtime.sinks import paint
from emotion_runtime.sinks.draw import Annotator, draw
from emotion_runtime.sinks.layout import Placer, Rect
from emotion_runtime.sinks.palette import color_of


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
    seconds: dict[str, float] = {}
    states = ("steady", "lost")
    for state in states:
        given = event(*(person(i, box, state=state) for i, box in enumerate(boxes)))
        tries = []
        for _ in range(3):
            start = time.process_time()
            draw(image, given)
            tries.append(time.process_time() - start)
        seconds[state] = min(tries)
    assert seconds["lost"] <= 1.2 * seconds["steady"]
