"""Turn frames into emotion events: detect, track, encode the persons who are due, smooth. Synchronous.

State is kept per source and track id, and dropped when the tracker drops the id. It is therefore bounded by
the number of people in view, and a newcomer never inherits the state of somebody else.
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
from emotion_runtime.quality import measure_quality
from emotion_runtime.ring import EARLY_TOLERANCE, ClipPlan, EmbeddingRing
from emotion_runtime.smoothing import ExponentialAverage, LabelHysteresis
from emotion_runtime.subject import Subjects, plan_crops
from emotion_runtime.tracker import Tracker
from emotion_runtime.types import EmotionEvent, Frame, Person, Quality, State, Track, Why


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a pipeline, shared by all sources.

    Attributes:
        detector: Finds persons in a frame.
        encoder: Turns crops of persons into embeddings.
        temporal: Turns clips of embeddings into features.
        head: Turns features into probabilities of emotions.
        affect: Regression whose labels are some of valence, arousal and dominance. None: events have none.
    """

    detector: Detector
    encoder: FrameEncoder
    temporal: TemporalEncoder
    head: LinearHead
    affect: LinearHead | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Time constants of the pipeline, in seconds of media time.

    Attributes:
        window: Time that a clip spans. None: the bundle's. See `ring.plan_clips`.
        every: Time between two encodings of a person. None: follows from `window`.
        smoothing: Time constant of the smoothing, see `smoothing.ExponentialAverage`.
        hysteresis: Probability margin of the shown label (not a time), see `smoothing.LabelHysteresis`.
        detect_every: Time between two detections; tracks stand still in between. 0: detect in every frame.
    """

    window: float | None = None
    every: float | None = None
    smoothing: float = SMOOTHING
    hysteresis: float = HYSTERESIS
    detect_every: float = 0.0


@dataclass(slots=True)
class _PersonState:
    """State of one person; the values are None until the first encoding."""

    ring: EmbeddingRing
    emotion_average: ExponentialAverage
    affect_average: ExponentialAverage
    label: LabelHysteresis
    raw: NDArray[np.float64] | None = None
    smoothed: NDArray[np.float64] | None = None
    affect: NDArray[np.float64] | None = None
    quality: Quality | None = None


class _SourceState:
    """State of one source."""

    def __init__(self) -> None:
        self.tracker = Tracker()
        self.tracks: list[Track] = []
        self.persons: dict[int, _PersonState] = {}
        self.detected_at = -np.inf


class Pipeline:
    """Computes emotion events for any number of sources.

    Args:
        models: The models, shared by all sources.
        clips: How clips are taken from a person's embeddings.
        timing: Time constants.
        clock: Returns seconds on the scale of `Frame.captured`; only used for the latency of live frames.

    Attributes:
        timer: Time spent so far, by stage.

    Raises:
        EmotionError: A value of `timing` is out of range.
    """

    def __init__(
        self,
        models: Models,
        clips: ClipPlan,
        timing: Timing,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 <= timing.detect_every < np.inf:
            raise EmotionError(
                f"detect_every {timing.detect_every}: expected seconds, 0 (every frame) or more"
            )
        self._models = models
        self._clips = clips
        self._timing = timing
        self._clock = clock
        self._sources: dict[str, _SourceState] = {}
        self.timer = StageTimer()
        self._new_person()  # rejects bad values now instead of at the first person

    def step(self, frame: Frame) -> EmotionEvent:
        """Return the event of one frame. Frames of one source must come in order of time."""
        return self.step_all([frame])[0]

    def step_all(self, frames: Sequence[Frame]) -> list[EmotionEvent]:
        """Return the events of frames from different sources, with one call of each encoder.

        Args:
            frames: At most one frame of each source.

        Raises:
            ValueError: Two frames are of the same source.
        """
        names = [frame.source for frame in frames]
        if len(set(names)) != len(names):
            raise ValueError(f"several frames of one source in one step: {names}")
        for frame in frames:
            self._track(frame)
        self._encode(frames)
        now = self._clock()
        return [self._event(frame, now) for frame in frames]

    def forget(self, source: str) -> None:
        """Drop the state of a source that ended."""
        self._sources.pop(source, None)

    def person_ids(self) -> dict[str, list[int]]:
        """Return the ids of the persons who have state, by source."""
        return {name: list(source.persons) for name, source in self._sources.items()}

    def _track(self, frame: Frame) -> None:
        """Detect and track; the state of persons is created and dropped here."""
        source = self._sources.setdefault(frame.source, _SourceState())
        if 0 <= frame.t - source.detected_at < self._timing.detect_every * (1 - EARLY_TOLERANCE):
            return
        source.detected_at = frame.t
        with self.timer.stage("detect"):
            detections = self._models.detector(frame.image)
        with self.timer.stage("track"):
            source.tracks = source.tracker.update(detections, frame.t)
        known = source.persons
        source.persons = {track.id: known.get(track.id) or self._new_person() for track in source.tracks}

    def _new_person(self) -> _PersonState:
        return _PersonState(
            EmbeddingRing(self._clips),
            ExponentialAverage(self._timing.smoothing),
            ExponentialAverage(self._timing.smoothing),
            LabelHysteresis(self._timing.hysteresis, abstain=self._models.head.abstain),
        )

    def _encode(self, frames: Sequence[Frame]) -> None:
        """Encode the visible persons who are due, of all frames together."""
        due: list[tuple[_PersonState, float]] = []
        views: list[tuple[NDArray[np.uint8], Subjects]] = []
        for frame in frames:
            source = self._sources[frame.source]
            seen = [track for track in source.tracks if track.seen]
            chosen = [track for track in seen if source.persons[track.id].ring.due(frame.t)]
            if chosen:
                height, width = frame.image.shape[:2]
                boxes = [track.box for track in chosen]
                views.append((frame.image, plan_crops(boxes, height, width, self._models.encoder.spec)))
                for track in chosen:
                    person = source.persons[track.id]
                    person.quality = measure_quality(frame.image, track)
                    due.append((person, frame.t))
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
            person.smoothed = person.emotion_average.update(probabilities[row], t)
            person.label.update(person.smoothed, t)
            if affect is not None:
                person.affect = person.affect_average.update(affect[row], t)

    def _event(self, frame: Frame, now: float) -> EmotionEvent:
        source = self._sources[frame.source]
        return EmotionEvent(
            source=frame.source,
            frame=frame.index,
            t=frame.t,
            time=frame.time,
            persons=[self._person(track, source.persons[track.id]) for track in source.tracks],
            latency_ms=0.0 if frame.captured is None else 1000 * (now - frame.captured),
            dropped=frame.dropped,
        )

    def _person(self, track: Track, person: _PersonState) -> Person:
        label = person.label.label
        state: State = "lost" if not track.seen else "warming" if person.ring.warming else "steady"
        why: Why | None = None
        if label is None:
            why = "warming" if person.smoothed is None else "uncertain"
        return Person(
            id=track.id,
            box=track.box,
            score=track.score,
            state=state,
            top=None if label is None else self._models.head.labels[label],
            why=why,
            emotions=_by_label(self._models.head, person.smoothed),
            raw=_by_label(self._models.head, person.raw),
            quality=person.quality,
            filled=person.ring.filled,
            **_by_label(self._models.affect, person.affect),
        )


def _by_label(head: LinearHead | None, values: NDArray[np.float64] | None) -> dict[str, float]:
    """Return a head's values by label; empty without a head, and until a person was encoded."""
    if head is None or values is None:
        return {}
    return dict(zip(head.labels, values.tolist(), strict=True))
