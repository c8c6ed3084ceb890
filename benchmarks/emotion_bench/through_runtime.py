"""Accuracy and steadiness of the whole runtime, with its own detector and tracker."""

from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Any

import numpy as np

from emotion_bench.accuracy_sets import Plan
from emotion_runtime.detectors.agreement import intersection_over_union
from emotion_runtime.runtime import EmotionRuntime
from emotion_runtime.sources import open_source
from emotion_runtime.types import Box, Person
from emotion_train.scenes.faces import Faces

# The fixed subset of test faces for the model card's number and for the test that guards it.
SUBSET, SUBSET_SEED = 300, 2022
PEOPLE = (1, 2)
GAP = 100.0  # seconds of media time between the starts of two rendered clips
OVERLAP = 0.4  # smallest intersection over union with the person's true box


def subset(faces: Faces) -> Faces:
    """Return the fixed subset of 300 faces."""
    rows = np.random.default_rng(SUBSET_SEED).permutation(len(faces.labels))[:SUBSET]
    return faces.take(rows)


def accuracy(runtime: EmotionRuntime, plan: Plan, *, clips: int | None = None) -> dict[str, Any]:
    """Run the first scenes (None: all) of one and two people frame by frame; score the last event of each.

    Returns:
        persons: number of people; found: fraction of them that the detector found; accuracy: of the
        predictions for these; outcomes: a character for each person in turn, "1" right, "0" wrong, "-" not
        found.
    """
    outcomes = ""
    for index, rendered in enumerate(islice(plan.rendered_clips(PEOPLE), clips)):
        event = None
        for rgb, time in zip(rendered.frames, rendered.times, strict=True):
            frame = np.ascontiguousarray(rgb[..., ::-1])
            # After so long a gap no track of the previous clip is left.
            event = runtime.step(frame, index * GAP + time * plan.seconds)
        for subject in rendered.scene.people:
            people = [person for person in (event.persons if event else []) if person.raw]
            nearest = most_overlapping([person.box for person in people], rendered.boxes(subject)[-1])
            if nearest is None:
                outcomes += "-"
            else:
                outcomes += str(int(likeliest(people[nearest]) == runtime.labels[plan.label(subject)]))
    found = len(outcomes) - outcomes.count("-")
    return {
        "persons": len(outcomes),
        "found": found / len(outcomes),
        "accuracy": outcomes.count("1") / max(found, 1),
        "outcomes": outcomes,
    }


def steadiness(runtime: EmotionRuntime, video: str) -> dict[str, float]:
    """Count label changes in a video, frame by frame, at the default smoothing.

    The first label of a person, at the end of the warm-up, is not a change.

    Returns:
        person_minutes: time that people are in view, the sum over all of them. Per person and minute:
        raw_changes of the likeliest label of each clip alone, and label_changes of the label that is shown,
        where "not sure" counts as a label. Nothing if nobody is in view.
    """
    seen: dict[int, list[tuple[float, str | None, str]]] = {}  # time, shown and likeliest label, by person
    with open_source(video) as source:
        for _, event in runtime.follow([source]):
            for person in event.persons:
                if person.state not in ("new", "warming", "lost") and person.raw:
                    seen.setdefault(person.id, []).append((event.t, person.top, likeliest(person)))
    steps = [step for rows in seen.values() for step in pairwise(rows)]
    minutes = sum(now[0] - before[0] for before, now in steps) / 60
    shown, raw = (sum(before[i] != now[i] for before, now in steps) for i in (1, 2))
    if not minutes:
        return {}
    return {
        "person_minutes": round(minutes, 3),
        "raw_changes": round(raw / minutes, 2),
        "label_changes": round(shown / minutes, 2),
    }


def likeliest(person: Person) -> str:
    """Return the likeliest emotion, whether or not it is shown as a label."""
    return max(person.raw, key=person.raw.__getitem__)


def most_overlapping(boxes: Sequence[Box], box: Box) -> int | None:
    """Return the index of the box that overlaps a given one most; None if none overlaps enough."""
    if not boxes:
        return None
    overlaps = intersection_over_union(np.array(boxes, np.float32), np.array([box], np.float32))[:, 0]
    best = int(overlaps.argmax())
    return best if overlaps[best] >= OVERLAP else None
