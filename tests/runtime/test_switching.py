"""A backend takes over from another one in the middle of a run."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from emotion_runtime.backends.base import Backend, Feeds, Outputs
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.backends.switching import SwitchingBackend, build_in_background, lowest_cosine
from emotion_runtime.bundle import load_bundle
from emotion_runtime.encoder import FrameEncoder, TemporalEncoder
from emotion_runtime.errors import EmotionError
from emotion_runtime.heads import load_head
from emotion_runtime.models import Models
from emotion_runtime.pipeline import Pipeline
from emotion_runtime.ring import plan_clips
from emotion_runtime.timing import Timing
from emotion_runtime.types import Detections, EmotionEvent, Frame

Distortion = Callable[[np.ndarray], np.ndarray]

SECONDS = 60  # timeout: a thread that hangs must fail the test


class Named:
    """A backend under another name that counts its runs and may distort their outputs."""

    def __init__(self, backend: Backend, name: str, distort: Distortion = np.array) -> None:
        self._backend, self.description, self._distort = backend, name, distort
        self.runs = self.closed = 0

    def close(self) -> None:
        self.closed += 1

    def run(self, feeds: Feeds) -> Outputs:
        self.runs += 1
        return {name: self._distort(value) for name, value in self._backend.run(feeds).items()}


class Slow:
    """A build that waits for `end`."""

    def __init__(self, result: Callable[[], Sequence[Backend]]) -> None:
        self._result = result
        self._go = threading.Event()

    def __call__(self) -> Sequence[Backend]:
        assert self._go.wait(SECONDS)
        return self._result()

    def end(self) -> None:
        (thread,) = [each for each in threading.enumerate() if each.name == "a build"]
        self._go.set()
        thread.join(SECONDS)
        assert not thread.is_alive()


def ready(backend: Backend) -> Future[Backend]:
    future: Future[Backend] = Future()
    future.set_result(backend)
    return future


def named(folder: Path, name: str, **options: Distortion) -> list[Named]:
    return [
        Named(OnnxBackend(folder / f"{graph}.onnx"), name, **options)
        for graph in ("frame_encoder", "temporal_encoder")
    ]


def pipeline(folder: Path, encoders: Sequence[Backend]) -> Pipeline:
    """Return a pipeline that sees two people, one of whom walks."""
    bundle = load_bundle(folder)

    def detector(image_bgr: np.ndarray) -> Detections:
        x = float(image_bgr[0, 0, 0])
        boxes = np.array([(10 + x, 20, 30 + x, 50), (90, 30, 112, 60)], np.float32)
        return Detections(boxes, np.full(2, 0.9, np.float32))

    models = Models(
        detector,
        FrameEncoder(encoders[0], bundle.manifest.preprocess),
        TemporalEncoder(encoders[1]),
        load_head(bundle, None),
    )
    clips = plan_clips(bundle.manifest.clip_frames, bundle.manifest.clip_seconds)
    return Pipeline(models, clips, Timing())


def watch(watched: Pipeline, start: int, end: int) -> list[EmotionEvent]:
    events = []
    for index in range(start, end):
        image = np.random.default_rng(index).integers(0, 32, (96, 128, 3), dtype=np.uint8)
        image[:48] += 128  # one scene, without cuts
        image[0, 0, 0] = index
        events.append(watched.step(Frame(image, index, index / 10, "door")))
    return events


def test_people_keep_their_ids_clips_and_smoothing(tiny_bundle: Path, caplog: pytest.LogCaptureFixture):
    expected = watch(pipeline(tiny_bundle, named(tiny_bundle, "only")), 0, 30)
    first, second = named(tiny_bundle, "first"), named(tiny_bundle, "second")
    build = Slow(lambda: second)
    with caplog.at_level(logging.INFO):
        switching = build_in_background(first, build, name="a build")
        watched = pipeline(tiny_bundle, switching)
        events = watch(watched, 0, 14)  # during the build
        assert {backend.description for backend in switching} == {"first"}
        assert second[0].runs == 0
        build.end()
        events += watch(watched, 14, 30)
    assert {backend.description for backend in switching} == {"second"}
    assert [each.closed for each in (*first, *second)] == [1, 1, 0, 0]
    assert events == expected
    states = [event.persons[0].state for event in events[2:]]
    assert states == sorted(states, reverse=True)  # warming, then steady: no person starts again
    assert [person.id for person in events[-1].persons] == [1, 2]
    # The first runs up to and including the batch of the switch, which both run.
    assert [each.runs for each in first] == [watched_runs(events, 14)] * 2
    assert len([message for message in caplog.messages if message == "switching from first to second"]) == 2


def watched_runs(events: list[EmotionEvent], switch: int) -> int:
    """Count the encodings, every 0.2 s from 0.2 s on, up to and including the first one after the switch."""
    times = [event.t for event in events if event.persons][::2]
    return len([t for t in times if t < events[switch].t]) + 1


@pytest.mark.parametrize(
    ("distort", "cosine"), [(np.negative, "-1.0000"), (lambda value: value * np.nan, "nan")]
)
def test_a_successor_that_disagrees_is_reported_once_and_not_used(
    tiny_bundle: Path,
    caplog: pytest.LogCaptureFixture,
    distort: Distortion,
    cosine: str,
):
    serving, wrong = named(tiny_bundle, "right")[1], named(tiny_bundle, "wrong", distort=distort)[1]
    switching = SwitchingBackend(serving, ready(wrong))
    clips = np.random.default_rng(0).random((2, 4, 4), np.float32)
    with caplog.at_level(logging.WARNING):
        found = [switching.run({"embeddings": clips})["features"] for _ in range(3)]
    for each in found:
        np.testing.assert_array_equal(each, serving.run({"embeddings": clips})["features"])
    assert (wrong.runs, wrong.closed, serving.closed) == (1, 1, 0)
    (message,) = caplog.messages
    assert message == (
        f"wrong gives different results (cosine {cosine}, expected 0.995 or more) and is not used: "
        "keeping right"
    )


@pytest.mark.parametrize("kind", [EmotionError, RuntimeError])
def test_a_successor_that_does_not_run_is_reported_once_and_not_used(
    tiny_bundle: Path, caplog: pytest.LogCaptureFixture, kind: type[Exception]
):
    def out_of_memory(_value: np.ndarray) -> np.ndarray:
        raise kind("CUDA: cudaMalloc failed")

    serving, broken = (named(tiny_bundle, "right")[1], named(tiny_bundle, "new", distort=out_of_memory)[1])
    switching = SwitchingBackend(serving, ready(broken))
    clips = np.random.default_rng(0).random((2, 4, 4), np.float32)
    for _ in range(2):
        assert switching.run({"embeddings": clips})["features"].shape == (2, 4)
    assert caplog.messages == ["new does not run (CUDA: cudaMalloc failed): keeping right"]
    assert switching.description == "right"
    assert (broken.closed, serving.closed) == (1, 0)


def test_close_closes_the_serving_backend_and_its_successor_whenever_it_comes(tiny_bundle: Path):
    backends = [named(tiny_bundle, name)[1] for name in ("first", "waiting", "second", "late")]
    SwitchingBackend(backends[0], ready(backends[1])).close()
    building: Future[Backend] = Future()
    switching = SwitchingBackend(backends[2], building)
    switching.close()
    building.set_result(backends[3])  # its build ends after the run
    assert [each.closed for each in backends] == [1, 1, 1, 1]


def test_a_build_that_fails_ends_the_run(tiny_bundle: Path):
    """The serving backend is not the one that the user requested."""

    def fail() -> Sequence[Backend]:
        raise EmotionError("the disk is full")

    build = Slow(fail)
    switching = build_in_background(named(tiny_bundle, "first"), build, name="a build")
    watched = pipeline(tiny_bundle, switching)
    assert watch(watched, 0, 10) == watch(pipeline(tiny_bundle, named(tiny_bundle, "only")), 0, 10)
    build.end()
    with pytest.raises(EmotionError, match="the disk is full"):
        watch(watched, 10, 20)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_in_a_build_keeps_its_traceback_and_serving_continues(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: list[type[BaseException] | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))
    build = Slow(lambda: 1 // 0)
    switching = build_in_background(named(tiny_bundle, "first"), build, name="a build")
    build.end()
    assert seen == [ZeroDivisionError]
    assert watch(pipeline(tiny_bundle, switching), 0, 5)[-1].persons


def test_the_lowest_cosine_of_rows():
    a = np.array([[3, 4], [0, 0], [1, 0]], np.float32)
    b = np.array([[4, 3], [0, 0], [5, 0]], np.float32)
    assert lowest_cosine({"y": a}, {"y": b}) == pytest.approx(24 / 25)
    assert lowest_cosine({"y": a}, {"y": -b}) == pytest.approx(-1)
    assert np.isnan(lowest_cosine({"y": a}, {"y": np.zeros_like(b)}))  # zeros equal only zeros
    turned = {"y": a[:, ::-1]}
    assert (
        lowest_cosine({"y": a}, turned) < 0.99 < lowest_cosine({"y": a}, turned, lambda y: np.sort(y, axis=1))
    )
