"""A pipeline on the tiny bundle, with a detector that a test scripts and backends that record."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import load_bundle
from emotion_runtime.encoder import FrameEncoder, TemporalEncoder
from emotion_runtime.heads import load_head
from emotion_runtime.models import Models
from emotion_runtime.pipeline import Pipeline
from emotion_runtime.preprocess import patch_weights, subject_window
from emotion_runtime.ring import plan_clips
from emotion_runtime.timing import Timing
from emotion_runtime.types import Detections, EmotionEvent, Frame, Person

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
        self.frames = RecordingBackend(OnnxBackend(bundle.graph_path("frame_encoder")), "frame_index")
        self.clips = RecordingBackend(OnnxBackend(bundle.graph_path("temporal_encoder")), "embeddings")
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


def halves(left: tuple[int, int, int] = RED_BGR, right: tuple[int, int, int] = BLUE_BGR) -> np.ndarray:
    image = np.empty((160, 320, 3), np.uint8)
    image[:, :160], image[:, 160:] = left, right
    return image


def by_id(event: EmotionEvent) -> dict[int, Person]:
    return {person.id: person for person in event.persons}


Prediction = Callable[..., np.ndarray]
