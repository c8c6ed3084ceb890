"""When people are detected and encoded: who is due, in crowds, in slow sources, between detections."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pipeline_bench import BLUE_BGR, GREEN_BGR, LEFT, RED_BGR, RIGHT, Bench, ScriptedDetector, by_id, halves

from emotion_runtime.detectors.network import NetworkDetector
from emotion_runtime.manifest import SwapLimits
from emotion_runtime.pipeline import Pipeline
from emotion_runtime.timing import Timing
from emotion_runtime.types import Detections, Frame


class BatchedDetector(NetworkDetector):
    """A detector of the kind that takes several images at once; it finds nobody."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    @property
    def batches(self) -> bool:
        return True

    def find_all(self, images_bgr: Sequence[np.ndarray], *, photos: bool = False) -> list[Detections]:
        if not photos:
            self.sizes.append(len(images_bgr))
        return [Detections.empty()] * len(images_bgr)

    def prepare(self, image_bgr: np.ndarray) -> Any:
        raise NotImplementedError

    def decode(self, *_: Any) -> Detections:
        raise NotImplementedError


def test_persons_warm_up_over_a_clip_and_are_encoded_only_when_due(bench: Bench):
    events = bench.show_many([LEFT, RIGHT], halves(), 10)
    states = [[person.state for person in event.persons] for event in events]
    # The tracker confirms at the third frame; three embeddings every 0.2 s are enough for a label.
    assert states == [["new"] * 2] * 2 + [["warming"] * 2] * 2 + [["steady"] * 2] * 6
    whys = [{person.why for person in event.persons} for event in events]
    assert whys == [{"warming"}] * 4 + [{None}] * 6
    assert all(
        (person.top is None) == (person.why is not None) for event in events for person in event.persons
    )
    assert bench.frames.persons == [2] * 5
    assert bench.clips.persons == [2] * 5
    between, before = by_id(events[7]), by_id(events[6])
    assert {i: p.emotions for i, p in between.items()} == {i: p.emotions for i, p in before.items()}


def test_live_frames_that_are_due_together_go_through_the_detector_together(tiny_bundle: Path):
    timing = Timing(detect_every=0.5)
    in_turn, together = ScriptedDetector(), BatchedDetector()
    calls = []
    for detector in (in_turn, together):
        bench = Bench(tiny_bundle, timing, detector, clock=lambda: 0.0)
        for index in range(6):
            t = index * 0.25
            bench.pipeline.step_all([Frame(halves(), index, t, name, captured=t) for name in "abc"])
            calls.append(in_turn.calls)
    assert together.sizes == [3, 3, 3]
    assert np.diff(calls[:6]).tolist() == [0, 1, 2, 1, 2]  # two wait for the step after


@pytest.mark.parametrize("step", [0.2, 0.5, 0.9, 1, 1.1, 1.5, 2, 5, 10])
def test_still_people_of_a_slow_source_become_steady(bench: Bench, step: float):
    bench.detector.boxes = [LEFT, RIGHT]
    states = []
    for index in range(6):
        event = bench.pipeline.step(Frame(halves(), index, index * step, "slow"))
        assert [person.id for person in event.persons] == [1, 2]
        assert all(person.emotions for person in event.persons)
        states.append(event.persons[0].state)
    assert states[0] == "new"
    assert states[2:] == ["steady"] * 4
    assert {person.top for person in event.persons} == {"anger", "neutral"}


def test_a_slow_source_is_warned_about_once(bench: Bench, caplog: pytest.LogCaptureFixture):
    for index in range(12):
        bench.pipeline.step(Frame(halves(), index, index * 0.04, "fast"))
        bench.pipeline.step(Frame(halves(), index, index * 1.0, "slow"))
    assert len(caplog.messages) == 1
    assert "source slow is seen only every 1 s" in caplog.messages[0]


def test_a_slow_start_is_not_warned_about(bench: Bench, caplog: pytest.LogCaptureFixture):
    """Opening a detector for the sizes of several cameras holds up their first frames."""
    for index in range(60):
        bench.pipeline.step(Frame(halves(), index, min(index, 7) * 0.6 + index * 0.1, "camera"))
    assert not caplog.messages


@pytest.mark.parametrize("rate", [10, 25, 30])
def test_encodings_of_a_crowd_are_spread_over_the_frames(bench: Bench, rate: int):
    bench.detector.boxes = [(x, y, x + 20, y + 25) for x in range(0, 300, 50) for y in range(0, 150, 30)]
    labelled = None
    for index in range(3 * rate):
        event = bench.pipeline.step(Frame(halves(), index, index / rate, "crowd"))
        assert all(person.emotions for person in event.persons)
        if labelled is None and all(person.top for person in event.persons):
            labelled = event.t
    assert bench.frames.persons[0] == 30  # nobody waits for a first result
    later = bench.frames.persons[1:]
    assert sum(later) == pytest.approx(30 * 3 / 0.2, rel=0.08)
    assert max(later) <= 1.5 * 30 / rate / 0.2
    assert labelled is not None
    assert labelled <= 0.4 + 0.21


def test_lost_person_keeps_the_last_prediction_and_is_not_encoded(bench: Bench):
    last = by_id(bench.show_many([LEFT], halves(), 10)[-1])[1]
    calls = len(bench.frames.persons)
    for event in bench.show_many([], halves(GREEN_BGR), 5):
        (person,) = event.persons
        assert person.state == "lost"
        assert (person.emotions, person.raw, person.top) == (last.emotions, last.raw, last.top)
    assert len(bench.frames.persons) == calls
    assert bench.show([LEFT], halves()).persons[0].state == "steady"  # back within the window
    assert bench.show_many([], halves(), 20)[-1].persons == []


def test_detection_at_its_own_interval(tiny_bundle: Path):
    bench = Bench(tiny_bundle, Timing(detect_every=0.3))
    events = bench.show_many([LEFT], halves(), 12)
    assert bench.detector.calls == 5  # at 0, 0.3, 0.6 and 0.9 s, and at 0.1 s for the speed of a new person
    assert [len(event.persons) for event in events] == [1] * 12
    assert [event.persons[0].state for event in events[:5]] == ["new"] * 3 + ["warming", "steady"]
    assert bench.frames.persons == [1] * 6  # tracks between detections are encoded too


@pytest.mark.parametrize(("still_frames", "speed"), [(0, 8), (11, 18)])
def test_who_walks_between_detections_stays_the_same_person(tiny_bundle: Path, still_frames: int, speed: int):
    """Where somebody starts to walk, the box shows the background until the next detection."""
    bench = Bench(tiny_bundle, Timing(detect_every=0.5))
    models = replace(bench.pipeline._models, swap=SwapLimits(always=0.95, suspicious=0.98))
    bench.pipeline = Pipeline(models, bench.plan, Timing(detect_every=0.5))
    events = []
    for index in range(25):
        left = 20 + speed * max(index - still_frames, 0)  # pixels; the box is 40 wide
        image = halves(BLUE_BGR, BLUE_BGR)
        image[:, max(left - 20, 0) : left + 60] = RED_BGR
        events.append(bench.show([(left, 40, left + 40, 90)], image))
    red = events[0].persons[0].raw
    assert {person.id for event in events for person in event.persons} == {1}
    assert bench.pipeline.counts.swaps == 0
    for event in events:
        assert event.persons[0].raw == pytest.approx(red, abs=0.1)


def test_time_without_detection_is_no_gap_in_which_somebody_may_have_left(tiny_bundle: Path):
    bench = Bench(tiny_bundle)
    models = replace(bench.pipeline._models, swap=SwapLimits(always=-1.0, suspicious=1.1))
    bench.pipeline = Pipeline(models, bench.plan, Timing(detect_every=0.5))
    events = bench.show_many([LEFT], halves(), 25)
    assert {person.id for event in events for person in event.persons} == {1}


def test_empty_frame_is_not_encoded(bench: Bench):
    event = bench.show([], halves())
    assert (event.schema, event.source, event.frame, event.t, event.persons) == (2, "a", 0, 0.0, [])
    assert bench.frames.persons == []
