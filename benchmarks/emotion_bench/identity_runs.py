"""Run composed scenes through the pipeline, and compare the published labels with who is there."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotion_bench.identity_scenes import RATE, Actor, Scene, together
from emotion_runtime.bundle import load_bundle
from emotion_runtime.encoder import Batch, FrameEncoder, TemporalEncoder
from emotion_runtime.heads import load_head
from emotion_runtime.manifest import SwapLimits
from emotion_runtime.models import Models
from emotion_runtime.open_backend import open_encoders
from emotion_runtime.pipeline import Pipeline
from emotion_runtime.ring import plan_clips
from emotion_runtime.timing import Timing
from emotion_runtime.types import Box, Detections, Person

SETTLED = 0.4  # seconds after a change, from which on a label of the person before is wrong
JITTER, MISSED = 0.02, 0.02  # deviation of a detected side, in head widths; fraction of heads that are missed
_NEAR = 0.5  # distance in head widths within which a published person is the one who is there
_PREVAILS = 0.6  # fraction of the labelled frames that have the most frequent label

People = Sequence[tuple[str, Box]]
Observed = Iterable[tuple[float, People, Sequence[Person]]]


class KnownHeads:
    """A detector that is given the heads of each frame, and finds them almost as exactly as a real one."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)
        self.show([])

    def show(self, heads: Sequence[Box]) -> None:
        """Set what is found in the next frame, by however many pipelines see it."""
        found = [box for box in heads if self._random.random() >= MISSED]
        boxes = np.array(found, np.float32).reshape(-1, 4)
        noise = self._random.normal(size=boxes.shape).astype(np.float32)
        boxes = boxes + (boxes[:, 2:3] - boxes[:, :1]) * JITTER * noise
        self._detections = Detections(boxes, np.full(len(boxes), 0.9, np.float32))

    def __call__(self, image_bgr: NDArray[np.uint8]) -> Detections:  # noqa: ARG002 - a `Detector`
        """Return the heads."""
        return self._detections


class _Remembering(FrameEncoder):
    """An encoder that encodes each crop once, although several pipelines ask for it."""

    def __init__(self, encoder: FrameEncoder) -> None:
        self.spec = encoder.spec
        self._encoder = encoder
        self.gather = encoder.gather  # type: ignore[method-assign]
        self.known: dict[bytes, NDArray[np.float32]] = {}

    def embed(self, batch: Batch) -> NDArray[np.float32]:
        rows = []
        for index, weights in zip(batch.frame_index, batch.patch_weights, strict=True):
            key = batch.images[index].tobytes() + weights.tobytes()
            if key not in self.known:
                one = Batch(batch.images[index][None], np.zeros(1, np.int64), weights[None])
                self.known[key] = self._encoder.embed(one)[0]
            rows.append(self.known[key])
        return np.stack(rows)


@dataclass
class Tally:
    """What was counted in scenes of one kind.

    Attributes:
        frames: Number of people in view, summed over the frames.
        right: Those with a label that the person has when alone.
        settled: Those more than `SETTLED` after a change; all in scenes without one.
        wrong: Settled ones with a label that the person never has when alone.
        changes: Times at which somebody took the place of somebody else.
        unnoticed: Those after which the id was the same.
        first_labels: Seconds from each change to the first right label, where there was one.
        extra_ids: Ids beyond one for each person and change.
    """

    frames: int = 0
    right: int = 0
    settled: int = 0
    wrong: int = 0
    changes: int = 0
    unnoticed: int = 0
    first_labels: list[float] = field(default_factory=list)
    extra_ids: int = 0

    @property
    def minutes(self) -> float:
        """Person-minutes."""
        return self.frames / RATE / 60

    @property
    def right_rate(self) -> float:
        """Fraction of all frames with a right label."""
        return self.right / max(self.frames, 1)

    @property
    def wrong_rate(self) -> float:
        """Fraction of the settled frames with a wrong label."""
        return self.wrong / max(self.settled, 1)

    @property
    def extra_rate(self) -> float:
        """Extra ids per person-minute."""
        return self.extra_ids / self.minutes if self.frames else 0.0

    def first_label(self, percentile: float) -> float | None:
        """Return a percentile of the seconds from a change to the first right label; None without changes."""
        return float(np.percentile(self.first_labels, percentile)) if self.first_labels else None

    def __add__(self, other: "Tally") -> "Tally":
        """Return the sum of both."""
        return Tally(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


def count(scene: Scene, observed: Observed, labels: dict[str, set[str]]) -> Tally:
    """Return what was counted in one scene.

    Args:
        scene: The scene.
        observed: Time of each frame, who was there, and who was published.
        labels: The labels that each person has when alone.
    """
    tally = Tally()
    ids: dict[tuple[str, int], Counter[int]] = {}  # by person and number of changes so far
    labelled: set[tuple[str, int]] = set()
    began: dict[tuple[str, int], float] = {}
    for t, people, persons in observed:
        epoch = sum(change <= t + 1e-9 for change in scene.changes)
        since = t - scene.changes[epoch - 1] if epoch else 0.0
        settled = since >= SETTLED - 1e-9 or not scene.changes
        for name, box in people:
            key = (name, epoch)
            began.setdefault(key, t)
            tally.frames += 1
            tally.settled += settled
            person = published_at(persons, box)
            if person is None:
                continue
            ids.setdefault(key, Counter())[person.id] += 1
            right = person.top in labels[name]
            tally.right += right
            tally.wrong += settled and person.top is not None and not right
            if right and key not in labelled:
                labelled.add(key)
                if epoch:
                    tally.first_labels.append(t - began[key])
    _count_ids(tally, ids, len(scene.changes))
    return tally


def _count_ids(tally: Tally, ids: dict[tuple[str, int], Counter[int]], changes: int) -> None:
    """Add the changes that were not noticed, and the ids that nobody needed."""
    used = {i for counter in ids.values() for i in counter}
    at_first = len({name for name, epoch in ids if epoch == 0})
    replaced = len([epoch for _, epoch in ids if epoch]) if changes else 0
    tally.changes += replaced
    tally.extra_ids += max(len(used) - at_first - replaced, 0)
    for (name, epoch), counter in ids.items():
        latest = counter.most_common(1)[0][0]
        before = [each for (other, e), each in ids.items() if other != name and e == epoch - 1]
        tally.unnoticed += any(each.most_common(1)[0][0] == latest for each in before)


def published_at(persons: Sequence[Person], box: Box) -> Person | None:
    """Return the published person whose head is at a box."""
    x, y, width = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0]
    visible = [person for person in persons if person.state != "lost"]
    distances = [
        np.hypot((p.box[0] + p.box[2]) / 2 - x, (p.box[1] + p.box[3]) / 2 - y) / width for p in visible
    ]
    if not visible or min(distances) > _NEAR:
        return None
    return visible[int(np.argmin(distances))]


class Runs:
    """Runs scenes with several limits side by side.

    Args:
        bundle: Name or folder of the bundle.
        limits: Limits to compare. None: swaps are not looked for.
    """

    def __init__(self, bundle: str | Path, limits: Sequence[SwapLimits | None]) -> None:
        loaded = load_bundle(bundle)
        manifest = loaded.manifest
        frame, temporal = open_encoders("cpu", loaded, None)
        self._heads = KnownHeads()
        self._encoder = _Remembering(FrameEncoder(frame, manifest.preprocess))
        head, temporal_encoder = load_head(loaded, None), TemporalEncoder(temporal)
        clips = plan_clips(manifest.clip_frames, manifest.clip_seconds)
        self._pipelines = [
            Pipeline(
                Models(self._heads, self._encoder, temporal_encoder, head, swap=each),
                clips,
                Timing(),
            )
            for each in limits
        ]

    def labels_alone(self, actor: Actor, room: NDArray[np.uint8], seconds: float) -> set[str]:
        """Return the labels that a person has alone in a continuous scene; empty if not one prevails."""
        tops: Counter[str] = Counter()
        for _, _, published in self._observe(together([actor], room, seconds)):
            tops.update(person.top for person in published[0] if person.top)
        common = tops.most_common(1)
        enough = seconds * RATE / 3  # frames with a label
        return set(tops) if common and common[0][1] > _PREVAILS * tops.total() > _PREVAILS * enough else set()

    def tally(self, scenes: Iterable[Scene], labels: dict[str, set[str]]) -> list[Tally]:
        """Run scenes and return what was counted with each of the limits."""
        totals = [Tally() for _ in self._pipelines]
        for scene in scenes:
            observed = list(self._observe(scene))
            for index in range(len(totals)):
                of_one = ((t, people, published[index]) for t, people, published in observed)
                totals[index] += count(scene, of_one, labels)
        return totals

    def _observe(self, scene: Scene) -> Iterator[tuple[float, People, list[list[Person]]]]:
        """Yield the time of each frame, who is there, and who each pipeline publishes."""
        for frame, people in scene.frames():
            self._heads.show([box for _, box in people])
            self._encoder.known.clear()
            yield frame.t, people, [pipeline.step(frame).persons for pipeline in self._pipelines]
        for pipeline in self._pipelines:
            pipeline.forget(scene.kind)
