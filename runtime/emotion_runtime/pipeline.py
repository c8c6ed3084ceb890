"""Turn frames into emotion events: detect, track, encode the persons who are due, smooth. Synchronous.

State is kept per source and track id, and dropped when the tracker drops the id. It is therefore bounded by
the number of people in view, and a newcomer never inherits the state of somebody else.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.detectors import batches, find_all
from emotion_runtime.frame_pace import FramePace
from emotion_runtime.metrics import Counts, StageTimer
from emotion_runtime.models import Models
from emotion_runtime.pace import StepCost
from emotion_runtime.person import PersonOptions, PersonState
from emotion_runtime.privacy.image_filter import ImageFilter
from emotion_runtime.quality import NO_HEAD, measure_quality
from emotion_runtime.rates import Rates
from emotion_runtime.ring import ClipPlan
from emotion_runtime.source_state import SourceState
from emotion_runtime.subject import Subjects, plan_crops, subject_boxes
from emotion_runtime.timing import Timing
from emotion_runtime.tracker import START_SCORE
from emotion_runtime.types import Detections, EmotionEvent, Frame, Track
from emotion_runtime.value_checks import ValueChecks

if TYPE_CHECKING:
    from emotion_runtime.feature_log import FeatureLog

# Fraction of the time between two detections by which a live source may wait for others.
_SPREAD = 0.25
_View = tuple[NDArray[np.uint8], Subjects]


@dataclass(frozen=True, slots=True)
class _Due:
    """A person who is encoded in this step.

    Attributes:
        track_id: Id of the track.
        person: The person's state.
        frame: The frame to encode.
        source: The source of the frame.
    """

    track_id: int
    person: PersonState
    frame: Frame
    source: SourceState


class Pipeline:
    """Computes emotion events for any number of sources.

    Args:
        models: The models, shared by all sources.
        clips: How clips are taken from a person's embeddings.
        timing: Time constants.
        clock: Returns seconds on the scale of `Frame.captured`; only used for live frames: for their latency,
            and for how often people are detected and encoded.

    Attributes:
        timer: Time spent so far, by stage.
        counts: What happened so far.
        features: Gets the features of every clip. None: they are not kept.
        images: Hides parts of images and people in them.

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
        self._models = models
        self._clock = clock
        self._options = PersonOptions(
            clips, timing.smoothing, timing.hysteresis, models.head, models.affect, models.quality
        )
        self._sources: dict[str, SourceState] = {}
        self._pace = FramePace(timing.detect_every, clips.every)
        # One step at a time: OpenVINO, CUDA and TensorRT have one place for their inputs and outputs.
        self._stepping = threading.RLock()
        self.timer = StageTimer(clock)
        self.counts = Counts()
        self._checks = ValueChecks(self.counts)
        self.features: FeatureLog | None = None
        self.images = ImageFilter()
        # Rejects bad values, and imports what the first frame needs, now instead of there.
        PersonState(self._options)
        self._new_source()

    def step(self, frame: Frame) -> EmotionEvent:
        """Return the event of one frame. Frames of one source must come in order of time."""
        return self.step_all([frame])[0]

    def step_all(self, frames: Sequence[Frame]) -> list[EmotionEvent]:
        """Return the events of frames from different sources, with one call of each encoder.

        Threads that call it take turns.

        Args:
            frames: At most one frame of each source.

        Raises:
            ValueError: Two frames are of the same source.
        """
        names = [frame.source for frame in frames]
        if len(set(names)) != len(names):
            raise ValueError(f"several frames of one source in one step: {names}")
        with self._stepping:
            return self._step(frames)

    def _step(self, frames: Sequence[Frame]) -> list[EmotionEvent]:
        frames = [self.images.fill(frame) for frame in frames]
        sources = {frame.source: self._source(frame) for frame in frames}
        begun, detect_seconds = self._clock(), self.timer.seconds["detect"]
        self._follow(frames, sources)
        followed, detect_seconds = self._clock(), self.timer.seconds["detect"] - detect_seconds
        encoded = self._encode(frames, sources)
        now = self._clock()
        pairs = zip(frames, sources.values(), strict=True)
        detected = [source for frame, source in pairs if source.detected_at == frame.t]
        cost = StepCost(
            begun=begun,
            ended=now,
            detecting=detect_seconds,
            detections=len(detected),
            extra=sum(source.extra for source in detected),
            encoding=now - followed,
            encoded=encoded,
            writing=self.timer.seconds["sinks"],
        )
        self._pace.update(cost, frames, sources)
        return [self._event(frame, sources[frame.source], now) for frame in frames]

    def forget(self, source: str) -> None:
        """Drop the state of a source that ended."""
        self._sources.pop(source, None)
        self.images.forget(source)

    def person_ids(self) -> dict[str, list[int]]:
        """Return the ids of the persons who have state, by source."""
        return {name: list(source.persons) for name, source in self._sources.items()}

    def rates(self) -> dict[str, Rates]:
        """Return how often people were detected and encoded lately, by source; another thread may ask."""
        return {name: source.rates.rates() for name, source in list(self._sources.items())}

    def _source(self, frame: Frame) -> SourceState:
        if frame.still:
            return self._new_source(still=True)  # forgotten after the step
        if frame.source not in self._sources:
            self._sources[frame.source] = self._new_source()
        return self._sources[frame.source]

    def _new_source(self, *, still: bool = False) -> SourceState:
        score = getattr(self._models.detector, "start_score", START_SCORE)  # a function has none
        return SourceState(self._options, start_score=score, still=still)

    def _follow(self, frames: Sequence[Frame], sources: Mapping[str, SourceState]) -> None:
        """Detect and track.

        If detecting in several frames together is no faster, live sources are detected in turn: if there is
        no time to detect in every frame, one may wait for the next step.
        """
        due: list[Frame] = []
        in_turn = not batches(self._models.detector)
        for frame in frames:
            source = sources[frame.source]
            wait = in_turn and bool(due) and frame.captured is not None  # files do not depend on each other
            cuts_before = source.cuts
            every, asked = self._pace.detect_every(frame), self._pace.detections_asked
            if source.begin(frame, every, may_wait=_SPREAD * wait, on_grid=asked):
                due.append(frame)
            self.counts.cuts += source.cuts - cuts_before
        if due:
            with self.timer.stage("detect"):
                found = self._detect(due)
            for frame, detections in zip(due, found, strict=True):
                usable = self._checks.usable(detections, frame)
                source = sources[frame.source]
                with self.timer.stage("track"):
                    source.follow(usable, frame)
                self.images.see(frame, usable, source.missing(frame.t))
        self.counts.frames += len(frames)
        for source in sources.values():
            self.counts.frames_with_persons += any(track.seen for track in source.tracks)

    def _detect(self, frames: Sequence[Frame]) -> list[Detections]:
        found: dict[int, Detections] = {}
        for still in (False, True):
            alike = [i for i, frame in enumerate(frames) if frame.still == still]
            if alike:
                images = [frames[i].image for i in alike]
                found.update(zip(alike, find_all(self._models.detector, images, photos=still), strict=True))
        return [found[i] for i in range(len(frames))]

    def _encode(self, frames: Sequence[Frame], sources: Mapping[str, SourceState]) -> int:
        """Encode the visible persons who are due, of all frames together, and return how many they are."""
        spec = self._models.encoder.spec
        due: list[_Due] = []
        views: list[_View] = []
        for frame in frames:
            source = sources[frame.source]
            chosen = source.due(frame.t, self._pace.live_encode_every(frame))
            if chosen:
                found: Sequence[Track | None] = chosen
                if self._models.heads:
                    with self.timer.stage("heads"):
                        found = self._models.heads(frame.image, chosen)
                height, width = frame.image.shape[:2]
                boxes = subject_boxes(chosen, found if self._models.heads else None, height, width, spec)
                views.append((frame.image, plan_crops(boxes, height, width, spec)))
                for track, view in zip(chosen, found, strict=True):
                    person = source.persons[track.id]
                    person.quality = measure_quality(frame.image, view) if view else NO_HEAD
                    due.append(_Due(track.id, person, frame, source))
        if not due:
            return 0
        with self.timer.stage("crop"):
            batch = self._models.encoder.gather(views)
        with self.timer.stage("encode"):
            embeddings = self._models.encoder.embed(batch)  # (P, D)
        encoded = []
        for each, embedding in zip(due, embeddings, strict=True):
            if not np.isfinite(embedding).all():
                self._checks.count_invalid(1, "frame encoder", each.frame.source)
            elif pushed := self._push(each, embedding):
                encoded.append(pushed)
        if encoded:
            self._predict(encoded)
        return len(due)

    def _push(self, due: _Due, embedding: NDArray[np.float32]) -> _Due | None:
        """Add an embedding to its person, who is another one from now on if it is of somebody else.

        Between two detections it is left out instead, since the person may have moved out of the box.
        """
        interval, limits = due.source.intervals.usual, self._models.swap
        seen_every = max(interval, self._pace.detect_every(due.frame))
        if limits is not None and due.person.swapped(embedding, limits, seen_every):
            if due.source.detected_at < due.frame.t:
                return None
            self.counts.swaps += 1
            before = due.person
            track_id, person = due.source.replace(due.track_id)
            due = replace(due, track_id=track_id, person=person)
            due.person.quality = before.quality
        if np.isfinite(due.person.ring.latest):
            due.source.rates.encoded(due.frame.t - due.person.ring.latest)
        due.person.push(embedding, due.frame.t, max(interval, self._pace.encode_every(due.frame)))
        return due

    def _predict(self, encoded: Sequence[_Due]) -> None:
        """Run the temporal encoder and the heads on the clips of the encoded persons."""
        with self.timer.stage("temporal"):
            features = self._models.temporal.features([each.person.ring.clip() for each in encoded])  # (P, D)
            features = np.where(
                np.isfinite(features).all(axis=1, keepdims=True), features, np.float32(np.nan)
            )
            probabilities = self._models.head(features)  # (P, C)
            affect = self._models.affect(features) if self._models.affect else None  # (P, V)
        for row, each in enumerate(encoded):
            values = None if affect is None else affect[row]
            if np.isfinite(probabilities[row]).all() and (values is None or np.isfinite(values).all()):
                each.person.predict(probabilities[row], values, each.frame.t)
                if self.features is not None:
                    self.features.add(each.frame.source, each.frame.index, each.track_id, features[row])
            else:
                self._checks.count_invalid(1, "temporal encoder or head", each.frame.source)

    def _event(self, frame: Frame, source: SourceState, now: float) -> EmotionEvent:
        interval = max(source.intervals.usual, self._pace.encode_every(frame))
        return EmotionEvent(
            source=frame.source,
            frame=frame.index,
            t=frame.t,
            time=frame.time,
            persons=[source.persons[track.id].publish(track, frame.t, interval) for track in source.tracks],
            latency_ms=0.0 if frame.captured is None else 1000 * (now - frame.captured),
            dropped=frame.dropped,
        )
