"""The composed scenes of identities: who is where, and what is counted."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from emotion_bench.identity_choice import CONTINUOUS, FILMED, choose, missed, outcome, summary
from emotion_bench.identity_page import page
from emotion_bench.identity_runs import SETTLED, KnownHeads, Tally, count
from emotion_bench.identity_scenes import (
    HEAD,
    HEIGHT,
    WIDTH,
    Actor,
    Scene,
    crossing,
    cuts,
    filmed,
    photographed,
    pillar,
    rooms,
    seat,
    swap,
    together,
)
from emotion_runtime.manifest import SwapLimits
from emotion_runtime.types import Box, Detections, Frame, Person
from emotion_train.scenes.faces import Faces

ROOM = rooms(1, 0)[0]
KINDS = ("cuts in one room", "cuts between rooms", "swaps", "seat", "pillar", "crossing", FILMED, CONTINUOUS)


def actor(name: str, grey: int) -> Actor:
    """A person who is a grey square, whose head is the middle half of it."""
    return Actor(name, np.full((1, 128, 128, 3), grey, np.uint8), np.array([[32.0, 32, 96, 96]]), 1.0)


A, B = actor("a", 0), actor("b", 255)


def names(scene: Scene) -> dict[float, list[str]]:
    """Return who is in view, by time."""
    return {frame.t: [name for name, _ in people] for frame, people in scene.frames()}


@pytest.mark.parametrize("scene", [cuts(A, B, [ROOM], 0.6, 4), swap(A, B, ROOM), together([A, B], ROOM, 2)])
def test_a_person_is_drawn_where_the_box_is(scene: Scene):
    for frame, people in scene.frames():
        assert frame.image.shape == (HEIGHT, WIDTH, 3)
        for name, box in people:
            x1, y1, x2, y2 = (round(side) for side in box)
            head = frame.image[y1 + 8 : y2 - 8, x1 + 8 : x2 - 8].mean()
            assert head < 20 if name == "a" else head > 150  # the light of continuous scenes sways
            assert 0.75 * HEAD < x2 - x1 < 1.25 * HEAD


def test_who_is_in_view():
    alternating = names(cuts(A, B, [ROOM], 0, 4.2))
    assert [alternating[t] for t in (0.0, 1.96, 2.0, 3.96, 4.0)] == [["a"], ["a"], ["b"], ["b"], ["a"]]
    chair = names(seat(A, B, ROOM))
    assert [chair[t] for t in (2.96, 3.4, 3.92)] == [["a"], [], ["b"]]
    passing = names(crossing(A, B, ROOM))
    assert passing[0.0] == ["b", "a"]
    assert ["a"] in passing.values()  # b is behind a


def test_people_change_places_in_a_swap():
    middles = {}
    for frame, people in swap(A, B, ROOM).frames():
        middles[frame.t] = {name: (box[0] + box[2]) / 2 for name, box in people}
    assert middles[2.96]["a"] < WIDTH / 2 < middles[2.96]["b"]
    assert middles[3.0]["b"] < WIDTH / 2 < middles[3.0]["a"]


def test_the_pillar_hides_one_person_for_less_than_a_second_before_the_other():
    scene = pillar(A, B, ROOM)
    seen = names(scene)
    last = max(t for t, people in seen.items() if people == ["a"])
    first = min(t for t, people in seen.items() if people == ["b"])
    assert 0.6 < first - last < 1.0
    assert scene.changes[0] == pytest.approx(first, abs=0.1)


def test_rooms_differ_in_colour_and_are_the_same_for_a_seed():
    two = rooms(2, 3)
    assert np.abs(two[0].astype(int) - two[1]).mean() > 20
    assert np.array_equal(two[1], rooms(2, 3)[1])


def test_the_images_of_a_person_are_shown_forwards_and_backwards():
    person = Actor("a", np.zeros((3, 8, 8, 3), np.uint8), np.zeros((3, 4)), 10.0)
    assert [person.at(i / 10 + 0.01) for i in range(6)] == [0, 1, 2, 1, 0, 1]


def test_a_filmed_person_keeps_the_box_of_the_head():
    frames = [Frame(np.full((100, 200, 3), 9, np.uint8), i, i / 10, "x") for i in range(5)]
    found = Detections(np.array([[80, 30, 120, 70]], np.float32), np.array([0.9], np.float32))
    (person,) = filmed("x", frames, lambda _: found)
    assert person.rate == pytest.approx(10)
    assert person.tiles.shape == (5, 128, 128, 3)
    assert person.boxes == pytest.approx(np.tile([32.0, 32, 96, 96], (5, 1)))


def test_a_face_image_is_a_person():
    faces = Faces.of_labels(np.full((1, 48, 48), 200, np.uint8), np.array([3]))
    (person,) = photographed(faces, [0])
    assert person.tiles.shape == (1, 128, 128, 3)
    x1, y1, x2, y2 = person.boxes[0]
    assert (x1 + x2) / 2 == (y1 + y2) / 2 == 64
    assert 64 < x2 - x1 < 80


def test_known_heads_are_found_almost_exactly():
    detector = KnownHeads()
    heads: list[Box] = [(10.0, 10.0, 74.0, 74.0)] * 200
    detector.show(heads)
    image = np.zeros((9, 9, 3), np.uint8)
    found = detector(image).boxes
    assert 190 <= len(found) < 200
    assert np.abs(found - heads[0]).mean() < 2
    assert np.array_equal(found, detector(image).boxes)  # every pipeline sees the same
    detector.show([])
    assert detector(image).boxes.shape == (0, 4)


Publish = Callable[[float, str], tuple[int, str | None]]


def tally(scene: Scene, publish: Publish) -> Tally:
    """Count a scene in which everybody is published with the id and the label that `publish` returns."""

    def observed() -> Iterator[tuple[float, list[tuple[str, Box]], list[Person]]]:
        for frame, people in scene.frames():
            persons = []
            for name, box in people:
                number, top = publish(frame.t, name)
                persons.append(Person(id=number, box=box, score=0.9, state="steady", top=top))
            yield frame.t, people, persons

    return count(scene, observed(), {"a": {"anger"}, "b": {"happiness"}})


RIGHT = {"a": "anger", "b": "happiness"}


def test_new_ids_and_right_labels_at_every_cut():
    def publish(t: float, name: str) -> tuple[int, str | None]:
        return int(t / 2 + 1e-9), RIGHT[name] if t % 2 + 1e-9 >= 0.4 else None

    counted = tally(cuts(A, B, [ROOM], 0, 6), publish)
    assert counted.frames == 150
    assert counted.minutes == pytest.approx(0.1)
    assert counted.right_rate == pytest.approx(0.8)
    assert (counted.wrong, counted.changes, counted.unnoticed, counted.extra_ids) == (0, 2, 0, 0)
    assert counted.first_label(50) == pytest.approx(0.4)


def test_a_label_that_is_kept_over_a_cut_is_wrong_from_some_time_on():
    counted = tally(cuts(A, B, [ROOM], 0, 4), lambda _t, _name: (1, "anger"))
    assert (counted.changes, counted.unnoticed, counted.extra_ids) == (1, 1, 0)
    assert counted.wrong == counted.settled == round((2 - SETTLED) * 25)
    assert counted.wrong_rate == 1
    assert counted.first_label(95) is None


def test_two_changes_in_every_swap():
    kept = tally(swap(A, B, ROOM), lambda t, name: (("a", "b").index(name) ^ int(t // 3 % 2), None))
    assert (kept.changes, kept.unnoticed, kept.extra_ids) == (4, 4, 0)


def test_a_new_id_of_a_person_who_stays_is_a_false_reset():
    scene = together([A, B], ROOM, 6)
    counted = tally(
        scene, lambda t, name: (2 * ("a", "b").index(name) + (name == "a" and t > 3), RIGHT[name])
    )
    assert (counted.changes, counted.unnoticed, counted.extra_ids) == (0, 0, 1)
    assert counted.extra_rate == pytest.approx(5)  # one in 0.2 person-minutes
    assert counted.right_rate == 1


def kinds(*, wrong: int = 0, right: int = 80, extra: int = 0) -> dict[str, Tally]:
    changing = Tally(100, right, 100, wrong, 4, 0, [0.4])
    return dict.fromkeys(KINDS[:-1], changing) | {CONTINUOUS: Tally(1500, 1500, extra_ids=extra)}


def test_the_targets():
    assert missed(summary(kinds())) == []
    assert missed(summary(kinds(wrong=6, right=50, extra=1))) == ["wrong", "right", "false_resets_per_minute"]


def test_few_false_resets_count_more_than_few_wrong_labels():
    results = [
        (SwapLimits(0.9, 0.99), kinds(extra=1)),
        (SwapLimits(0.5, 0.6), kinds(wrong=20)),
        (SwapLimits(0.7, 0.9), kinds(wrong=6)),
    ]
    assert choose(results) == SwapLimits(0.7, 0.9)


def test_the_page_shows_the_results():
    some = outcome(SwapLimits(0.7, 0.9), kinds(wrong=6))
    text = page(
        {
            "people": {"choosing": {"filmed": 6, "faces": 21}, "reporting": {"filmed": 5, "faces": 21}},
            "filmed_seconds": 43.4,
            "targets": {"wrong": 0.05, "right": 0.6, "first_label_s": 0.8, "false_resets_per_minute": 0.2},
            "reporting": [some, outcome(None, kinds())],
            "choosing": [some],
            "clips": [{"source": "demo", "person_minutes": 0.2, "ids": 2, "false_resets": 0}],
        }
    )
    assert "### Limits 0.7, 0.9" in text
    assert "### Limits none" in text
    assert "| 6.0 % |" in text
    assert "a|" not in text
