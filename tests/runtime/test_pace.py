"""Live sources on a machine whose speed is made up: how often people are detected and encoded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import load_bundle
from emotion_runtime.encoder import FrameEncoder, TemporalEncoder
from emotion_runtime.heads import load_head
from emotion_runtime.models import Models
from emotion_runtime.pace import LOAD, LONGEST_DETECT
from emotion_runtime.pipeline import Pipeline
from emotion_runtime.ring import plan_clips
from emotion_runtime.timing import Timing
from emotion_runtime.types import Detections, EmotionEvent, Frame

SIDE = 20  # pixels of a head


@dataclass
class Machine:
    """A machine with a clock of its own, which every work moves on."""

    detecting: float = 0.0  # seconds per image
    encoding: float = 0.0  # seconds per call
    per_person: float = 0.0  # seconds per person of a call
    now: float = 1000.0

    def clock(self) -> float:
        return self.now


@dataclass
class Camera:
    """A camera in front of people who stand in a grid."""

    name: str
    rate: float
    people: int
    image: np.ndarray = field(default_factory=lambda: np.zeros((240, 600, 3), np.uint8))
    taken: int = -1
    dropped: int = 0

    def newest(self, now: float) -> Frame | None:
        index = int((now - 1000.0) * self.rate + 1e-6)
        if index <= self.taken:
            return None
        self.dropped += index - self.taken - 1
        self.taken = index
        captured = 1000.0 + index / self.rate
        return Frame(self.image, index, index / self.rate, self.name, captured, self.dropped)

    def next_time(self) -> float:
        return 1000.0 + (self.taken + 1) / self.rate

    def boxes(self) -> np.ndarray:
        corners = [(10 + 30 * (i % 19), 10 + 30 * (i // 19)) for i in range(self.people)]
        return np.float32([(x, y, x + SIDE, y + SIDE) for x, y in corners]).reshape(-1, 4)


class SlowBackend:
    """A frame encoder that takes time on the machine's clock."""

    description = "slow"

    def __init__(self, inner: Any, machine: Machine) -> None:
        self._inner, self._machine = inner, machine

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self._machine.now += self._machine.encoding + self._machine.per_person * len(feeds["frame_index"])
        return self._inner.run(feeds)


class World:
    """A run of cameras on a machine: each step takes the newest frame of every camera that has one."""

    def __init__(
        self, bundle_folder: Path, machine: Machine, cameras: Sequence[Camera], timing: Timing | None = None
    ) -> None:
        bundle = load_bundle(bundle_folder)
        manifest = bundle.manifest
        self.machine, self.cameras = machine, cameras
        self._of_image = {id(camera.image): camera for camera in cameras}
        self.detected: dict[str, list[float]] = {camera.name: [] for camera in cameras}
        models = Models(
            self._detect,
            FrameEncoder(
                SlowBackend(OnnxBackend(bundle.graph_path("frame_encoder")), machine),
                manifest.preprocess,
            ),
            TemporalEncoder(OnnxBackend(bundle.graph_path("temporal_encoder"))),
            load_head(bundle),
        )
        self.plan = plan_clips(manifest.clip_frames, manifest.clip_seconds)
        self.pipeline = Pipeline(models, self.plan, timing or Timing(), clock=machine.clock)
        self.events: list[EmotionEvent] = []
        self.busy = 0.0
        self.steps: list[float] = []  # how long each took
        self.encodings: dict[tuple[str, int], list[float]] = {}  # times of each person's

    def _detect(self, image: np.ndarray) -> Detections:
        camera = self._of_image[id(image)]
        self.machine.now += self.machine.detecting
        self.detected[camera.name].append(self.machine.now)
        boxes = camera.boxes()
        return Detections(boxes, np.full(len(boxes), 0.9, np.float32))

    def run(self, seconds: float) -> "World":
        """Go on for some time, which `busy`, `steps`, `detected` and `encodings` are then about."""
        self.busy, self.steps, self.encodings, self.events = 0.0, [], {}, []
        for times in self.detected.values():
            times.clear()
        end = self.machine.now + seconds
        while self.machine.now < end:
            frames = [each for camera in self.cameras if (each := camera.newest(self.machine.now))]
            if not frames:
                self.machine.now = min(camera.next_time() for camera in self.cameras)
                continue
            before = self.machine.now
            self.events += self.pipeline.step_all(frames)
            self.busy += self.machine.now - before
            self.steps.append(self.machine.now - before)
            for frame in frames:
                for track, person in self.pipeline._sources[frame.source].persons.items():
                    if person.ring.latest == frame.t:
                        self.encodings.setdefault((frame.source, track), []).append(frame.t)
        self.load = self.busy / seconds
        return self

    def frame_rate(self, name: str) -> float:
        times = [event.t for event in self.events if event.source == name]
        return (len(times) - 1) / (times[-1] - times[0])

    def waits(self, source: str | None = None) -> np.ndarray:
        of = [times for (name, _), times in self.encodings.items() if source in (None, name)]
        return np.concatenate([np.diff(times) for times in of])

    def detect_interval(self, name: str) -> float:
        return float(np.diff(self.detected[name]).mean())


def test_a_fast_machine_detects_in_every_frame_and_encodes_as_often_as_asked(tiny_bundle: Path):
    world = World(tiny_bundle, Machine(0.005, 0.001, 0.0005), [Camera("a", 25, 3)]).run(3).run(6)
    assert world.detect_interval("a") == pytest.approx(0.04, abs=0.001)
    assert world.waits().mean() == pytest.approx(world.plan.every, rel=0.02)
    assert world.load < LOAD


@pytest.mark.slow
@pytest.mark.parametrize("detecting", [0.03, 0.1])
@pytest.mark.parametrize("rates", [(25,), (25, 25), (30, 15, 5, 0.5)])
def test_detection_takes_the_time_that_there_is(
    tiny_bundle: Path, detecting: float, rates: tuple[float, ...]
):
    cameras = [Camera(f"camera{i}", rate, 2) for i, rate in enumerate(rates)]
    world = World(tiny_bundle, Machine(detecting, 0.002, 0.002), cameras).run(5).run(10)
    assert world.load < LOAD + 0.05
    for camera in cameras:
        longest = max(LONGEST_DETECT, 1 / camera.rate)
        gaps = np.diff(world.detected[camera.name])
        overloaded = len(rates) * detecting / LONGEST_DETECT > LOAD / 2
        assert overloaded or gaps.max() <= longest + detecting * len(rates) + 2 / camera.rate
        assert world.frame_rate(camera.name) > 0.6 * camera.rate
    assert world.waits().mean() < 1.25 * max(world.plan.every, 1 / min(rates))


@pytest.mark.slow
def test_a_detector_that_is_far_too_slow_leaves_time_for_the_encoder(tiny_bundle: Path):
    world = World(tiny_bundle, Machine(1.0, 0.01, 0.01), [Camera("a", 25, 4)]).run(20).run(60)
    assert world.load < LOAD + 0.05
    assert 1.4 < world.detect_interval("a") < 4
    assert np.median(world.waits()) == pytest.approx(world.plan.every, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("shares", [(50,), (45, 4, 1)])
@pytest.mark.parametrize("per_person", [0.004, 0.02])
def test_nobody_of_fifty_people_waits_more_than_twice_the_mean(
    tiny_bundle: Path, shares: tuple[int, ...], per_person: float
):
    cameras = [Camera(f"camera{i}", (25, 10, 15)[i], people) for i, people in enumerate(shares)]
    seconds = 10 + 500 * per_person
    world = World(tiny_bundle, Machine(0.01, 0.004, per_person), cameras).run(seconds / 2).run(seconds)
    waits = world.waits()
    assert waits.mean() > 1.4 * world.plan.every  # there is too little time
    assert waits.max() <= 2 * waits.mean()
    assert len(world.encodings) == 50
    for camera in cameras:  # of every camera as often as of the others
        assert world.waits(camera.name).mean() == pytest.approx(waits.mean(), rel=0.15)
        assert world.frame_rate(camera.name) > 0.8 * camera.rate
    assert world.load < LOAD + 0.1
    rates = world.pipeline.rates()
    for camera in cameras:
        assert rates[camera.name].encode_every == pytest.approx(waits.mean(), rel=0.2)


@pytest.mark.slow
def test_one_frame_takes_not_much_longer_than_the_others(tiny_bundle: Path):
    world = World(tiny_bundle, Machine(0.005, 0.002, 0.002), [Camera("a", 25, 30)]).run(10).run(20)
    steps = np.array(world.steps)
    assert steps.max() < 1.6 * steps.mean()


@pytest.mark.slow
def test_a_newcomer_comes_first(tiny_bundle: Path):
    camera = Camera("a", 25, 49)
    world = World(tiny_bundle, Machine(0.01, 0.004, 0.02), [camera]).run(20)
    camera.people = 50
    world.run(20)
    times = world.encodings["a", 50]
    began = world.events[0].t
    found = next(event.t for event in world.events if len(event.persons) == 50)
    assert found - began < LONGEST_DETECT + 2 / camera.rate
    assert times[0] - found < 0.25
    assert times[1] - times[0] < 0.5 * world.waits().mean()  # and has a label soon
    assert world.waits().max() <= 2 * world.waits().mean()


@pytest.mark.slow
def test_what_is_kept_is_bounded_and_old_times_are_forgotten(tiny_bundle: Path):
    camera = Camera("a", 25, 50)
    world = World(tiny_bundle, Machine(0.01, 0.004, 0.02), [camera]).run(10)
    assert max(len(person.ring._kept) for person in world.pipeline._sources["a"].persons.values()) <= 10
    camera.people = 2
    world.run(10).run(10)
    assert world.waits().mean() == pytest.approx(world.plan.every, rel=0.05)
    assert world.pipeline.rates()["a"].encode_every == pytest.approx(world.plan.every, rel=0.2)


@pytest.mark.slow
def test_labels_are_not_stale_while_people_wait_for_their_turn(tiny_bundle: Path):
    world = World(tiny_bundle, Machine(0.01, 0.004, 0.05), [Camera("a", 25, 50)]).run(20).run(20)
    assert world.waits().mean() > 2
    stale = [person.why == "stale" for event in world.events for person in event.persons]
    assert np.mean(stale) < 0.01


def test_files_are_detected_in_every_frame_whatever_the_clock_says(tiny_bundle: Path):
    world = World(tiny_bundle, Machine(1.0, 1.0, 1.0), [Camera("a", 25, 6)])
    for index in range(50):
        world.pipeline.step(Frame(world.cameras[0].image, index, index / 25, "a"))
    assert len(world.detected["a"]) == 50
    assert world.pipeline.rates()["a"].encode_every == pytest.approx(world.plan.every, rel=0.1)


def test_seconds_that_are_given_hold_for_live_sources_too(tiny_bundle: Path):
    world = World(tiny_bundle, Machine(0.001, 0.001), [Camera("a", 25, 2)], Timing(detect_every=0.4)).run(20)
    assert world.detect_interval("a") == pytest.approx(0.4, rel=0.05)


def test_the_first_frame_of_a_crowd_does_not_take_long(tiny_bundle: Path):
    world = World(tiny_bundle, Machine(0.01, 0.004, 0.02), [Camera("a", 25, 50)]).run(1)
    assert max(world.steps) < 0.01 + 0.004 + 5 * 0.02
    assert all(person.why == "warming" for person in world.events[0].persons)
