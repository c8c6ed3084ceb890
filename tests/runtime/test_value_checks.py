"""Values from detectors and models that cannot be right reach nobody."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pipeline_bench import LEFT, RIGHT, Bench, Box, halves

from emotion_runtime.errors import EmotionError
from emotion_runtime.types import Detections, Quality


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_reach_nobody(
    bench: Bench, caplog: pytest.LogCaptureFixture, value: float
):
    clean = bench.show_many([LEFT, RIGHT], halves(), 5)[-1]
    bench.frames.spoil = value  # the embedding of the first person
    spoiled = bench.show_many([LEFT, RIGHT], halves(), 4)
    bench.frames.spoil = None
    bench.clips.spoil = value
    spoiled += bench.show_many([LEFT, RIGHT], halves(), 4)
    bench.clips.spoil = None
    bench.detector.boxes = [LEFT, (value, 0, 10, 10)]
    for event in spoiled:
        assert [person.id for person in event.persons] == [1, 2]
        for person in event.persons:
            assert np.isfinite([*person.emotions.values(), *person.raw.values()]).all()
        assert event.persons[0].raw == clean.persons[0].raw
    counted = bench.pipeline.counts.invalid
    assert counted >= 4
    assert [p.id for p in bench.show([LEFT, (value, 0, 10, 10)], halves()).persons if p.state != "lost"] == [
        1
    ]
    assert bench.pipeline.counts.invalid == counted + 1
    assert len([message for message in caplog.messages if "not finite" in message]) == 1
    recovered = bench.show_many([LEFT, RIGHT], halves(), 6)[-1]
    assert [person.state for person in recovered.persons] == ["steady", "steady"]


@pytest.mark.parametrize(
    "wrong", [(50, 50, 50, 90), (90, 90, 30, 30), (-90, -90, -10, -10), (5000, 5, 5100, 90)]
)
def test_boxes_that_are_empty_or_outside_the_frame_are_nobody(
    bench: Bench, caplog: pytest.LogCaptureFixture, wrong: Box
):
    for event in bench.show_many([LEFT, wrong], halves(), 4):
        assert [person.box for person in event.persons] == [LEFT]
    assert len([message for message in caplog.messages if "outside the frame" in message]) == 1


def test_boxes_in_fractions_of_the_image_are_refused(bench: Bench):
    with pytest.raises(EmotionError, match=r"boxes between 0 and 1, .* expected x1, y1, x2, y2 in pixels"):
        bench.show([(0.1, 0.2, 0.4, 0.9), (0.5, 0.0, 1.0, 1.0)], halves())
    assert len(bench.show([(0.1, 0.2, 0.4, 0.9), LEFT], halves()).persons) == 2  # one may be small


def test_scores_in_percent_are_refused(bench: Bench):
    bench.detector.scores = [95.0]
    with pytest.raises(EmotionError, match="a score of 95; expected 0 to 1: divide percentages by 100"):
        bench.show([LEFT], halves())


def test_detections_are_made_from_arrays_of_numbers():
    scores = np.array([0.9], np.float32)
    for boxes in ([LEFT], np.array([LEFT], object), None):
        with pytest.raises(ValueError, match=r"^boxes .*: expected numbers, as np\.asarray\("):
            Detections(boxes, scores)
    with pytest.raises(ValueError, match=r"^scores \[0\.9\]: expected numbers"):
        Detections(np.array([LEFT]), [0.9])


def test_a_box_far_larger_than_the_frame_is_shortened(bench: Bench):
    event = bench.show([(-1e30, -1e6, 1e6, 1e30)], halves())
    height, width = halves().shape[:2]
    assert [person.box for person in event.persons] == [(-width, -height, 2 * width, 2 * height)]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_landmarks_and_heads_that_are_not_finite_were_not_found(bench: Bench, value: float):
    found = Detections(
        np.array([LEFT], np.float32),
        np.array([0.9], np.float32),
        np.full((1, 5, 2), value, np.float32),
        np.full((1, 4), value, np.float32),
    )
    bench.pipeline._models = replace(bench.pipeline._models, detector=lambda _image: found)
    (person,) = bench.show([], halves()).persons
    assert person.quality == Quality(head_px=LEFT[2] - LEFT[0])


@pytest.mark.parametrize("found", [None, [LEFT], np.zeros((0, 5))])
def test_what_a_detector_must_return(bench: Bench, found: Any):
    bench.pipeline._models = replace(bench.pipeline._models, detector=lambda _image: found)
    with pytest.raises(
        EmotionError, match=r"detector returned .*expected emotion_runtime\.types\.Detections"
    ):
        bench.show([], halves())
