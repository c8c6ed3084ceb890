"""State belongs to a person and ends with it: newcomers, cuts, swaps, and frames of another size."""

from dataclasses import replace

import numpy as np
import pytest
from pipeline_bench import BLUE_BGR, GREEN_BGR, LEFT, RED_BGR, RIGHT, Bench, Prediction, halves

from emotion_runtime.feature_log import FeatureLog
from emotion_runtime.manifest import SwapLimits
from emotion_runtime.person import PersonState
from emotion_runtime.pipeline import Pipeline
from emotion_runtime.timing import Timing


def test_newcomer_does_not_inherit_state(bench: Bench, prediction: Prediction):
    bench.show_many([LEFT], halves(RED_BGR), 12)
    bench.show_many([], halves(RED_BGR), 15)  # longer than the tracker keeps lost tracks
    green = halves(GREEN_BGR)
    events = bench.show_many([LEFT], green, 4)
    (person,) = events[-1].persons
    assert person.id == 2
    assert person.state == "warming"
    expected = prediction(bench.embedding(LEFT, GREEN_BGR, green))
    assert list(person.raw.values()) == pytest.approx(expected.tolist(), abs=1e-3)
    assert person.emotions == person.raw  # smoothing restarts too


def test_a_scene_cut_drops_everybody(bench: Bench):
    rng = np.random.default_rng(0)
    rooms = [
        np.kron(rng.integers(0, 256, (8, 16, 3), dtype=np.uint8), np.ones((20, 20, 1), np.uint8))
        for _ in "ab"
    ]
    bench.show_many([LEFT, RIGHT], rooms[0], 6)
    persons = bench.show([LEFT, RIGHT], rooms[1]).persons
    assert [(p.id, p.state, p.top) for p in persons] == [(3, "new", None), (4, "new", None)]
    assert bench.pipeline.counts.cuts == 1


def test_another_person_in_the_same_place_is_a_new_one(bench: Bench):
    models = replace(bench.pipeline._models, swap=SwapLimits(always=0.8, suspicious=0.95))
    bench.pipeline = Pipeline(models, bench.plan, Timing())
    red, blue = halves(RED_BGR, (0, 0, 0)), halves(BLUE_BGR, (0, 0, 0))
    features = bench.pipeline.features = FeatureLog(4, ("anger", "joy", "neutral"))
    before = bench.show_many([LEFT], red, 8)
    assert {p.id for event in before for p in event.persons} == {1}
    after = [event.persons for event in bench.show_many([LEFT], blue, 8)]
    assert [[p.id for p in persons] for persons in after] == [[2]] * 8
    kept = [features.take("a", index).keys() for index in range(16)]
    assert [set().union(*kept[:8]), set().union(*kept[8:])] == [{1}, {2}]
    assert [persons[0].top for persons in after] == [None] * 4 + ["neutral"] * 4
    assert after[0][0].raw == after[0][0].emotions  # nothing of the person before is left
    assert (bench.pipeline.counts.swaps, bench.pipeline.counts.cuts) == (1, 0)


def test_a_suspicion_lasts_until_an_embedding_is_accepted(bench: Bench):
    """Between two detections, an embedding that looks like somebody else's is left out and not decided on."""
    person, limits = PersonState(bench.pipeline._options), SwapLimits(always=0.6, suspicious=0.95)
    before, other = np.array([[1, 0], [0.8, 0.6]], np.float32)  # a cosine of 0.8
    person.push(before, 0.0, 0.1)
    assert not person.swapped(other, limits, 0.1)
    person.looks_different = True
    assert person.swapped(other, limits, 0.1)
    assert person.swapped(other, limits, 0.1)
    person.push(before, 0.2, 0.1)
    assert not person.swapped(other, limits, 0.1)


def test_a_change_of_frame_size_scales_the_boxes_or_starts_over(bench: Bench):
    bench.show_many([LEFT, RIGHT], halves(), 6)
    double = np.repeat(np.repeat(halves(), 2, 0), 2, 1)
    boxes = [tuple(2 * side for side in box) for box in (LEFT, RIGHT)]
    event = bench.show(boxes, double)
    assert [(person.id, person.state) for person in event.persons] == [(1, "steady"), (2, "steady")]
    assert event.persons[1].box == pytest.approx(boxes[1])
    portrait = np.ascontiguousarray(double.transpose(1, 0, 2))
    event = bench.show(boxes[:1], portrait)
    assert [(person.id, person.state, person.why) for person in event.persons] == [(3, "new", "warming")]


def test_state_is_bounded_by_the_people_in_view(bench: Bench):
    image, rng = np.zeros((160, 320, 3), np.uint8), np.random.default_rng(0)
    highest = 0
    for _ in range(60):  # a stream of visitors, each for half a second
        x, y = rng.uniform(0, 270), rng.uniform(0, 100)
        for boxes in [[(x, y, x + 40, y + 50)]] * 5 + [[]] * 3:
            ids = [person.id for person in bench.show(boxes, image).persons]
            assert bench.pipeline.person_ids() == {"a": ids}
            assert len(ids) <= 4  # lost tracks are kept for one second, so no more visitors have state
            highest = max([highest, *ids])
    assert highest >= 30  # there were many visitors
    bench.show_many([], image, 15)
    assert bench.pipeline.person_ids() == {"a": []}
    bench.pipeline.forget("a")
    assert bench.pipeline.person_ids() == {}
