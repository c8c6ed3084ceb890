"""The pipeline: who is encoded when, which state belongs to whom, and the values against their formulas."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from emotion_runtime import metrics
from emotion_runtime.bundle import load_bundle
from emotion_runtime.detectors.network import NetworkDetector
from emotion_runtime.encoder import FrameEncoder, TemporalEncoder
from emotion_runtime.errors import EmotionError
from emotion_runtime.heads import load_head
from emotion_runtime.manifest import QualityLimits, SwapLimits, write_manifest
from emotion_runtime.metrics import RunReport, StageTimer
from emotion_runtime.models import Models
from emotion_runtime.open_backend import open_backend
from emotion_runtime.person import PersonState
from emotion_runtime.pipeline import Pipeline
from emotion_runtime.preprocess import patch_weights, subject_window
from emotion_runtime.ring import plan_clips
from emotion_runtime.timing import Timing
from emotion_runtime.types import Detections, EmotionEvent, Frame, Person, Quality

Box = tuple[float, float, float, float]
LEFT: Box = (20, 40, 60, 90)
RIGHT: Box = (220, 40, 260, 90)
RED_BGR, BLUE_BGR, GREEN_BGR = (30, 20, 220), (210, 40, 10), (40, 190, 60)
RATE = 10  # frames per second; with every = 0.2 s, each second frame is encoded


class ScriptedDetector:
    """A detector that returns `boxes`, which tests change between frames."""

    def __init__(self) -> None:
        self.boxes: Sequence[Box] = []
        self.scores: Sequence[float] | None = None  # None: all 0.9
        self.calls = 0

    def __call__(self, image_bgr: np.ndarray) -> Detections:
        assert image_bgr.dtype == np.uint8
        self.calls += 1
        return Detections(
            np.asarray(self.boxes, np.float32).reshape(-1, 4),
            np.full(len(self.boxes), 0.9, np.float32)
            if self.scores is None
            else np.asarray(self.scores, np.float32),
        )


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


class RecordingBackend:
    """A backend that records the sizes of its inputs."""

    description = "recording"

    def __init__(self, inner: Any, key: str) -> None:
        self._inner, self._key = inner, key
        self.persons: list[int] = []
        self.images: list[int] = []
        self.spoil: float | None = None  # replaces the outputs for the first person

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.persons.append(len(feeds[self._key]))
        self.images.append(len(feeds.get("images", [])))
        outputs = self._inner.run(feeds)
        if self.spoil is not None:
            for values in outputs.values():
                values[0] = self.spoil
        return outputs


class Bench:
    """A pipeline on the tiny bundle, with access to its parts."""

    def __init__(
        self, folder: Path, timing: Timing | None = None, detector: Any = None, **options: Any
    ) -> None:
        timing = timing or Timing()
        bundle = load_bundle(folder)
        manifest = bundle.manifest
        self.spec = manifest.preprocess
        self.detector = detector or ScriptedDetector()
        self.frames = RecordingBackend(open_backend("cpu", bundle.graph_path("frame_encoder")), "frame_index")
        self.clips = RecordingBackend(
            open_backend("cpu", bundle.graph_path("temporal_encoder")), "embeddings"
        )
        models = Models(
            self.detector,
            FrameEncoder(self.frames, self.spec),
            TemporalEncoder(self.clips),
            load_head(bundle),
            quality=manifest.quality,
        )
        plan = plan_clips(
            manifest.clip_frames, manifest.clip_seconds, window=timing.window, every=timing.every
        )
        self.plan = plan
        self.pipeline = Pipeline(models, plan, timing, **options)
        self.index = 0

    def show(self, boxes: Sequence[Box], image: np.ndarray, source: str = "a") -> EmotionEvent:
        self.detector.boxes = boxes
        event = self.pipeline.step(Frame(image, self.index, self.index / RATE, source))
        self.index += 1
        return event

    def show_many(self, boxes: Sequence[Box], image: np.ndarray, count: int) -> list[EmotionEvent]:
        return [self.show(boxes, image) for _ in range(count)]

    def embedding(self, box: Box, bgr: tuple[int, int, int], image: np.ndarray) -> np.ndarray:
        """Return the tiny frame encoder's embedding of a person whose window shows one colour."""
        window = subject_window(box, *image.shape[:2], self.spec)
        weights = patch_weights(box, window, self.spec)
        return np.array([*(channel / 255 for channel in reversed(bgr)), weights.mean()])


def test_the_limits_of_the_bundle_decide_who_gets_a_label(tiny_bundle: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "strict"))
    manifest = load_bundle(folder).manifest
    write_manifest(msgspec.structs.replace(manifest, quality=QualityLimits(head_px=101)), folder)
    for bundle, why in ((tiny_bundle, None), (folder, "small")):
        event = Bench(bundle).show_many([(20, 20, 120, 150)], halves(), 10)[-1]
        assert [person.why for person in event.persons] == [why]
        assert [person.top is None for person in event.persons] == [why is not None]


@pytest.fixture
def bench(tiny_bundle: Path) -> Bench:
    return Bench(tiny_bundle)


def halves(left: tuple[int, int, int] = RED_BGR, right: tuple[int, int, int] = BLUE_BGR) -> np.ndarray:
    image = np.empty((160, 320, 3), np.uint8)
    image[:, :160], image[:, 160:] = left, right
    return image


def by_id(event: EmotionEvent) -> dict[int, Person]:
    return {person.id: person for person in event.persons}


Prediction = Callable[..., np.ndarray]


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


def test_live_frames_that_are_due_together_go_through_the_detector_together(tiny_bundle: Path):
    timing = Timing(detect_every=0.5)
    in_turn, together = ScriptedDetector(), BatchedDetector()
    for detector in (in_turn, together):
        bench = Bench(tiny_bundle, timing, detector, clock=lambda: 0.0)
        for index in range(6):
            t = index * 0.25
            bench.pipeline.step_all([Frame(halves(), index, t, name, captured=t) for name in "abc"])
    assert together.sizes == [3, 3, 3]
    assert in_turn.calls < 9  # some wait for the step after


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
    before = bench.show_many([LEFT], red, 8)
    assert {p.id for event in before for p in event.persons} == {1}
    after = [event.persons for event in bench.show_many([LEFT], blue, 8)]
    assert [[p.id for p in persons] for persons in after] == [[2]] * 8
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


def test_a_slow_source_is_warned_about_once(bench: Bench, caplog: pytest.LogCaptureFixture):
    for index in range(12):
        bench.pipeline.step(Frame(halves(), index, index * 0.04, "fast"))
        bench.pipeline.step(Frame(halves(), index, index * 1.0, "slow"))
    assert len(caplog.messages) == 1
    assert "source slow is seen only every 1 s" in caplog.messages[0]


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


def test_latency_is_measured_for_live_frames_only(tiny_bundle: Path):
    bench = Bench(tiny_bundle, clock=lambda: 107.25)
    image = halves()
    assert bench.pipeline.step(Frame(image, 0, 0.0, "file")).latency_ms == 0.0
    live = bench.pipeline.step(Frame(image, 0, 0.0, "live", captured=107.0, dropped=3))
    assert live.latency_ms == 250.0
    assert live.dropped == 3


def test_empty_frame_is_not_encoded(bench: Bench):
    event = bench.show([], halves())
    assert (event.schema, event.source, event.frame, event.t, event.persons) == (2, "a", 0, 0.0, [])
    assert bench.frames.persons == []


def test_stages_are_timed(bench: Bench):
    bench.show_many([LEFT], halves(), 3)
    spent = {name for name, seconds in bench.pipeline.timer.seconds.items() if seconds > 0}
    assert spent == {"detect", "track", "crop", "encode", "temporal"}


def test_timer_adds_up_by_stage():
    times = iter([10.0, 10.5, 20.0, 20.25, 30.0, 31.0])
    timer = StageTimer(clock=lambda: next(times))
    for name in ("detect", "encode", "detect"):
        with timer.stage(name):
            pass
    milliseconds = timer.milliseconds_per(3)
    assert milliseconds["detect"] == pytest.approx(500)
    assert milliseconds["encode"] == pytest.approx(250 / 3)
    assert milliseconds["sinks"] == 0


def test_report_counts_frames_and_seconds():
    times = iter([102.0, 106.0])  # the first event, the end
    report = RunReport(100.0, clock=lambda: next(times))
    for index in range(5):
        report.add(EmotionEvent(source="a", frame=index, t=float(index), persons=[]))
    timer = StageTimer()
    timer.seconds |= {"detect": 0.05, "track": 0.0001}
    line = report.line(timer, "a backend")
    # Four frames in the four seconds after the first event.
    assert line == "5 frames in 6.0 s (first after 2.0 s, then 1.0 fps); ms per frame: detect 10.0; a backend"
    assert not report.found


def test_report_of_photos_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "MAX_PHOTOS", 2)
    report = RunReport(0.0)
    persons = [Person(id=1, box=(0, 0, 1, 1), score=1.0, state="photo")]
    for index in range(5):
        report.add(EmotionEvent(source=f"{index}.jpg", frame=0, t=0.0, persons=persons), still=True)
    assert (list(report.photos), report.more_photos, report.found) == (["0.jpg", "1.jpg"], 3, True)
