"""From frames to emotion events: detect, track, encode who is due, smooth. Synchronous.

State is kept by source and track id and dropped when the tracker forgets the id, so it is bounded by the
people in view, and who comes next never inherits what the last one felt.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.defaults import HYSTERESIS, SMOOTHING
from emotion_runtime.detectors import Detector
from emotion_runtime.encoder import FrameEncoder, TemporalEncoder
from emotion_runtime.errors import EmotionError
from emotion_runtime.heads import LinearHead
from emotion_runtime.metrics import StageTimer
from emotion_runtime.ring import EARLY, ClipPlan, EmbeddingRing
from emotion_runtime.smoothing import Smoother
from emotion_runtime.subject import Subjects, plan_crops
from emotion_runtime.tracker import Tracker
from emotion_runtime.types import SCHEMA_VERSION, EmotionEvent, Frame, Person, State, Track


@dataclass(frozen=True, slots=True)
class Models:
    """What looks at pictures and embeddings; shared by all sources.

    affect: a regression whose labels are some of valence, arousal and dominance; None: they stay unknown.
    """

    detector: Detector
    encoder: FrameEncoder
    temporal: TemporalEncoder
    head: LinearHead
    affect: LinearHead | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """What happens how often, in seconds of media time.

    window, every: see `ring.plan_clips`; None: the bundle's. smoothing: time constant, hysteresis: margin of
    the top label, see `smoothing.Smoother`. detect_every: 0 detects in each frame; else tracks stand still in
    between.
    """

    window: float | None = None
    every: float | None = None
    smoothing: float = SMOOTHING
    hysteresis: float = HYSTERESIS
    detect_every: float = 0.0

    def smoother(self, abstain: float = 0.0) -> Smoother:
        """One person's smoother; abstain: of the head."""
        return Smoother(time_constant=self.smoothing, margin=self.hysteresis, abstain=abstain)


@dataclass(slots=True)
class _Person:
    """What is remembered of one person; nothing is known until the first encoding."""

    ring: EmbeddingRing
    smoother: Smoother
    affect_smoother: Smoother
    raw: NDArray[np.float64] | None = None
    smoothed: NDArray[np.float64] | None = None
    affect: NDArray[np.float64] | None = None


class _Source:
    """What is remembered of one source."""

    def __init__(self) -> None:
        self.tracker = Tracker()
        self.tracks: list[Track] = []
        self.persons: dict[int, _Person] = {}
        self.detected_at = -np.inf


class Pipeline:
    """Emotion events of any number of sources.

    clock: seconds since the same moment as `Frame.captured`; read only for the latency of live frames.

    Raises:
        EmotionError: a value of `timing` out of range.

    """

    def __init__(
        self,
        models: Models,
        clips: ClipPlan,
        timing: Timing,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        timing.smoother()  # refuses bad values now and not at the first person
        if not 0 <= timing.detect_every < np.inf:
            raise EmotionError(f"detect_every {timing.detect_every}: expected seconds, 0 (always) or more")
        self._models = models
        self._clips = clips
        self._timing = timing
        self._clock = clock
        self._sources: dict[str, _Source] = {}
        self.timer = StageTimer()

    def step(self, frame: Frame) -> EmotionEvent:
        """One frame to its event. Frames of one source come in order of time."""
        return self.step_all([frame])[0]

    def step_all(self, frames: Sequence[Frame]) -> list[EmotionEvent]:
        """Frames of different sources, at most one of each, to their events; one call of each encoder."""
        names = [frame.source for frame in frames]
        if len(set(names)) != len(names):
            raise ValueError(f"several frames of one source in one step: {names}")
        for frame in frames:
            self._follow(frame)
        self._encode(frames)
        now = self._clock()
        return [self._event(frame, now) for frame in frames]

    def forget(self, source: str) -> None:
        """Drop all that is known of a source that ended."""
        self._sources.pop(source, None)

    def person_ids(self) -> dict[str, list[int]]:
        """Ids of the persons for whom there is state, by source."""
        return {name: list(source.persons) for name, source in self._sources.items()}

    def _follow(self, frame: Frame) -> None:
        """Detect and track; persons come into being and are forgotten here."""
        source = self._sources.setdefault(frame.source, _Source())
        if 0 <= frame.t - source.detected_at < self._timing.detect_every * (1 - EARLY):
            return
        source.detected_at = frame.t
        with self.timer.stage("detect"):
            detections = self._models.detector(frame.image)
        with self.timer.stage("track"):
            source.tracks = source.tracker.update(detections, frame.t)
        known = source.persons
        source.persons = {track.id: known.get(track.id) or self._newcomer() for track in source.tracks}

    def _newcomer(self) -> _Person:
        smoother = self._timing.smoother(self._models.head.abstain)
        return _Person(EmbeddingRing(self._clips), smoother, self._timing.smoother())

    def _encode(self, frames: Sequence[Frame]) -> None:
        """Encode the persons in view who are due, of all frames together."""
        due: list[tuple[_Person, float]] = []
        views: list[tuple[NDArray[np.uint8], Subjects]] = []
        for frame in frames:
            source = self._sources[frame.source]
            seen = [track for track in source.tracks if track.seen]
            chosen = [track for track in seen if source.persons[track.id].ring.due(frame.t)]
            if chosen:
                height, width = frame.image.shape[:2]
                boxes = [track.box for track in chosen]
                views.append((frame.image, plan_crops(boxes, height, width, self._models.encoder.spec)))
                due.extend((source.persons[track.id], frame.t) for track in chosen)
        if not due:
            return
        with self.timer.stage("crop"):
            batch = self._models.encoder.gather(views)
        with self.timer.stage("encode"):
            embeddings = self._models.encoder.embed(batch)  # (P, D)
        for (person, t), embedding in zip(due, embeddings, strict=True):
            person.ring.push(embedding, t)
        with self.timer.stage("temporal"):
            features = self._models.temporal.features([person.ring.clip() for person, _ in due])  # (P, D)
            probabilities = self._models.head(features)  # (P, C)
            affect = self._models.affect(features) if self._models.affect else None  # (P, V)
        for row, (person, t) in enumerate(due):
            person.raw = probabilities[row]
            person.smoothed = person.smoother.update(probabilities[row], t)
            if affect is not None:
                person.affect = person.affect_smoother.update(affect[row], t)

    def _event(self, frame: Frame, now: float) -> EmotionEvent:
        source = self._sources[frame.source]
        return EmotionEvent(
            schema=SCHEMA_VERSION,
            source=frame.source,
            frame=frame.index,
            t=frame.t,
            persons=[self._person(track, source.persons[track.id]) for track in source.tracks],
            latency_ms=0.0 if frame.captured is None else 1000 * (now - frame.captured),
            dropped=frame.dropped,
        )

    def _person(self, track: Track, person: _Person) -> Person:
        label = person.smoother.label
        state: State = "lost" if not track.seen else "warming" if person.ring.warming else "steady"
        return Person(
            id=track.id,
            box=track.box,
            score=track.score,
            state=state,
            emotions=self._labelled(person.smoothed),
            raw=self._labelled(person.raw),
            top=None if label is None else self._models.head.labels[label],
            **self._affect(person.affect),
        )

    def _affect(self, values: NDArray[np.float64] | None) -> dict[str, float]:
        """Valence, arousal and dominance, those that the bundle's head has."""
        if values is None or self._models.affect is None:
            return {}
        return dict(zip(self._models.affect.labels, values.tolist(), strict=True))

    def _labelled(self, probabilities: NDArray[np.float64] | None) -> dict[str, float]:
        if probabilities is None:
            return {}
        return dict(zip(self._models.head.labels, probabilities.tolist(), strict=True))
