"""The pipeline: the predictions of each person against their formulas, and photos."""

import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from pipeline_bench import BLUE_BGR, LEFT, RATE, RED_BGR, RIGHT, Bench, Prediction, halves

from emotion_runtime.bundle import load_bundle
from emotion_runtime.manifest import QualityLimits, write_manifest
from emotion_runtime.pipeline import Pipeline
from emotion_runtime.timing import Timing
from emotion_runtime.types import Frame


def test_the_limits_of_the_bundle_decide_who_gets_a_label(tiny_bundle: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "strict"))
    manifest = load_bundle(folder).manifest
    write_manifest(msgspec.structs.replace(manifest, quality=QualityLimits(head_px=101)), folder)
    for bundle, why in ((tiny_bundle, None), (folder, "small")):
        event = Bench(bundle).show_many([(20, 20, 120, 150)], halves(), 10)[-1]
        assert [person.why for person in event.persons] == [why]
        assert [person.top is None for person in event.persons] == [why is not None]


def test_each_person_gets_the_prediction_of_its_own_window(bench: Bench, prediction: Prediction):
    image = halves()
    event = bench.show_many([LEFT, RIGHT], image, 5)[-1]
    left, right = event.persons
    for person, box, color in ((left, LEFT, RED_BGR), (right, RIGHT, BLUE_BGR)):
        assert person.box == pytest.approx(box, abs=0.5)
        expected = prediction(bench.embedding(box, color, image))
        assert list(person.raw) == ["anger", "joy", "neutral"]
        assert list(person.raw.values()) == pytest.approx(expected.tolist(), abs=1e-3)
        assert person.emotions == pytest.approx(person.raw)  # there is nothing to smooth yet
        assert sum(person.emotions.values()) == pytest.approx(1, abs=1e-9)
        assert (person.valence, person.arousal, person.dominance) == (None, None, None)
    assert (left.top, right.top) == (
        "anger",
        "neutral",
    )  # red and blue windows; a wrong colour order would swap them


def test_clips_and_smoothing_follow_their_formulas(bench: Bench, prediction: Prediction):
    red, blue = halves(RED_BGR), halves(BLUE_BGR, (0, 0, 0))  # still darker on the right: no scene cut
    bench.show_many([LEFT], red, 4)  # encoded at 0.0 and 0.2 s
    event = bench.show_many([LEFT], blue, 4)[-1]  # encoded at 0.4 and 0.6 s
    one, two = (bench.embedding(LEFT, color, red) for color in (RED_BGR, BLUE_BGR))
    raws = [prediction(one), prediction(one, one), prediction(one, one, two), prediction(one, one, two, two)]
    shown = raws[0]
    for raw in raws[1:]:
        shown = raw + (shown - raw) * np.exp(-0.2 / 0.8)
    (person,) = event.persons
    assert list(person.raw.values()) == pytest.approx(raws[-1].tolist(), abs=1e-3)
    assert list(person.emotions.values()) == pytest.approx(shown.tolist(), abs=1e-3)
    assert person.state == "steady"


def test_two_persons_in_one_window_are_cropped_once(bench: Bench):
    bench.show_many([LEFT, (22, 42, 58, 88)], halves(), 2)
    assert bench.frames.persons == [2]
    assert bench.frames.images == [1]


def test_cameras_share_one_encoder_call_but_no_state(bench: Bench, prediction: Prediction):
    bench.detector.boxes = [LEFT]
    red, blue = halves(RED_BGR), halves(BLUE_BGR)
    for index in range(2):
        frames = [Frame(red, index, index / RATE, "a"), Frame(blue, index, index / RATE, "b")]
        events = bench.pipeline.step_all(frames)
    assert bench.frames.persons == [2]  # the second frames are too early
    assert bench.clips.persons == [2]
    assert [event.source for event in events] == ["a", "b"]
    for event, color in zip(events, (RED_BGR, BLUE_BGR), strict=True):
        (person,) = event.persons
        assert person.id == 1  # the same id, but another person
        expected = prediction(bench.embedding(LEFT, color, red))
        assert list(person.raw.values()) == pytest.approx(expected.tolist(), abs=1e-3)
    with pytest.raises(ValueError, match="several frames of one source"):
        bench.pipeline.step_all([frames[0], frames[0]])


def test_a_new_person_has_probabilities_but_no_label(bench: Bench):
    (person,) = bench.show([LEFT], halves()).persons
    assert (person.state, person.top, person.why) == ("new", None, "warming")
    assert sum(person.emotions.values()) == pytest.approx(1)
    assert person.raw == person.emotions
    assert person.filled == 0.25


def photo(image: np.ndarray, source: str = "photo.jpg") -> Frame:
    return Frame(image, 0, 0.0, source, still=True)


def test_a_photo_gives_its_people_at_once_and_leaves_no_state(bench: Bench, prediction: Prediction):
    bench.show_many([LEFT], halves(), 3)
    bench.detector.boxes = [RIGHT, LEFT]
    for _ in range(2):
        persons = bench.pipeline.step(photo(halves())).persons
        assert [(person.id, person.state, person.why) for person in persons] == [
            (1, "photo", None),
            (2, "photo", None),
        ]
        for person, box, color in zip(persons, (LEFT, RIGHT), (RED_BGR, BLUE_BGR), strict=True):
            expected = prediction(bench.embedding(box, color, halves()))
            assert person.box == pytest.approx(box)
            assert list(person.emotions.values()) == pytest.approx(expected.tolist(), abs=1e-3)
            assert (person.emotions, person.filled) == (person.raw, 1)
    assert [person.top for person in persons] == ["anger", "neutral"]
    assert bench.pipeline.person_ids() == {"a": [1]}


def test_a_detection_of_low_score_in_a_photo_is_nobody(bench: Bench):
    bench.detector.scores = [0.9, 0.49]
    bench.detector.boxes = [LEFT, RIGHT]
    assert len(bench.pipeline.step(photo(halves())).persons) == 1


def test_a_photo_has_a_label_from_the_threshold_on(bench: Bench):
    bench.detector.boxes = [LEFT]
    (person,) = bench.pipeline.step(photo(halves())).persons
    models = bench.pipeline._models
    for threshold, top in (
        (max(person.emotions.values()), "anger"),
        (max(person.emotions.values()) + 1e-6, None),
    ):
        head = replace(models.head, abstain=threshold)
        again = Pipeline(replace(models, head=head), bench.plan, Timing())
        (person,) = again.step(photo(halves())).persons
        assert (person.top, person.why) == (top, None if top else "uncertain")
