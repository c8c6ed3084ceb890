"""Accuracy and steadiness of the whole runtime: frames in, events out, with its own detector and tracker."""

from dataclasses import dataclass

import numpy as np

from emotion_bench.accuracy_sets import Plan
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.sources import open_source
from emotion_runtime.types import Box, EmotionEvent, Person
from emotion_train.scenes.faces import Faces

# The fixed subset of test faces that the model card's figure and the test that guards it are taken of.
SUBSET, SUBSET_SEED = 300, 2022
PEOPLE = (1, 2)
GAP = 100.0  # seconds of media time between the starts of two rendered clips
OVERLAP = 0.4  # intersection over union from which a box is that person's


def subset(faces: Faces) -> Faces:
    """The 300 faces."""
    rows = np.random.default_rng(SUBSET_SEED).permutation(len(faces.labels))[:SUBSET]
    return faces.take(rows)


def accuracy(runtime: EmotionRuntime, plan: Plan) -> dict[str, float]:
    """Scenes of one and two people, frame by frame, each clip with its last event.

    found: share of the people that the detector found where they are. accuracy: of the answers to these.
    """
    found: list[bool] = []
    right: list[bool] = []
    for number, rendered in enumerate(plan.rendered_clips(PEOPLE)):
        event = None
        for picture, time in zip(rendered.frames, rendered.times, strict=True):
            frame = np.ascontiguousarray(picture[..., ::-1])
            # After so long a gap no track of the previous clip is left.
            event = runtime.step(frame, number * GAP + time * plan.seconds)
        for subject in rendered.scene.people:
            person = _at(event, rendered.boxes(subject)[-1])
            found.append(person is not None)
            if person is not None:
                answer = max(person.raw, key=lambda label: person.raw[label])
                right.append(answer == runtime.labels[plan.label(subject)])
    accuracy = sum(right) / max(len(right), 1)
    return {"persons": len(found), "found": float(np.mean(found)), "accuracy": accuracy}


@dataclass(slots=True)
class Steadiness:
    """Changes of labels over the time that people are watched. minutes: of all persons together."""

    minutes: float = 0.0
    raw: int = 0
    held: int = 0

    def per_minute(self) -> dict[str, float]:
        """A person."""
        return {
            "person_minutes": round(self.minutes, 3),
            "raw_changes": round(self.raw / self.minutes, 2),
            "label_changes": round(self.held / self.minutes, 2),
        }


def steadiness(runtime: EmotionRuntime, video: str) -> Steadiness:
    """A video frame by frame at the default smoothing.

    raw: changes of the likeliest label of a clip alone; label: changes of what people are shown, where "not
    sure" is a label of its own.
    """
    total = Steadiness()
    last: dict[int, tuple[float, str | None, str]] = {}
    with open_source(video) as source:
        for _, event in runtime.follow([source]):
            for person in event.persons:
                if person.state == "lost" or not person.raw:
                    continue
                now = max(person.raw, key=lambda label, raw=person.raw: raw[label])  # type: ignore[misc]
                if person.id in last:
                    before, held, raw = last[person.id]
                    total.minutes += (event.t - before) / 60
                    total.held += held != person.top
                    total.raw += raw != now
                last[person.id] = event.t, person.top, now
    return total


def _at(event: EmotionEvent | None, box: Box) -> Person | None:
    """The person whose box overlaps most with the given one."""
    candidates = [
        (_overlap(person.box, box), person) for person in (event.persons if event else []) if person.raw
    ]
    share, person = max(candidates, key=lambda pair: pair[0], default=(0.0, None))
    return person if share >= OVERLAP else None


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height)
