"""Figures of a bundle on the test faces, with 95 % intervals over faces."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_bench.accuracy_sets import CLEAN, CORRUPTIONS, Plan, changed, face_crop, scenes, tight_faces
from emotion_bench.answers import Answerer, Answers
from emotion_runtime.backends.onnx import open_graph
from emotion_train.language.labels import EKMAN, ekman_index
from emotion_train.probing.bootstrap import Scorer, bootstrap_intervals, point_metrics
from emotion_train.probing.metrics import area_under_roc
from emotion_train.probing.scene_probe import LABELLED_CATEGORIES, SwapScorer
from emotion_train.probing.scorers import single_label_scorer
from emotion_train.scenes.batches import cut_shared_crop
from emotion_train.scenes.drawing import Scene
from emotion_train.scenes.sets import PersonClip, RenderedClip, person_pair

Result = dict[str, Any]
CROWDS = (1, 3, 8)
TIMED = 40  # calls
# What is said of a set; recalls of the classes follow.
KEPT = ("accuracy", "balanced_accuracy", "ece")


def figures(probability: NDArray[np.float64], labels: NDArray[np.int64], *, resamples: int) -> Result:
    """Accuracy, balanced accuracy, calibration error and recalls, each with its interval."""
    scorer = single_label_scorer(EKMAN, probability, labels, {"ece": probability})
    kept = {*KEPT, *(f"recall_{name}" for name in EKMAN)}
    return described(scorer, len(labels), resamples, kept)


def described(scorer: Scorer, samples: int, resamples: int, kept: set[str] | None = None) -> Result:
    """{"samples": N, NAME: {"value", "low", "high"}}; every sample is a group of its own."""
    points = point_metrics(scorer, samples)
    between = (
        bootstrap_intervals(scorer, np.arange(samples), seed=0, resamples=resamples) if resamples else {}
    )
    result: Result = {"samples": samples}
    for name, value in points.items():
        if (kept is None or name in kept) and not np.isnan(value):
            low, high = between.get(name, (None, None))
            result[name] = {"value": round(value, 4), "low": _rounded(low), "high": _rounded(high)}
    return result


def by_people(answers: Answers, head: str) -> dict[str, float]:
    """Accuracy by the number of people in the scene."""
    right = answers.probabilities[head].argmax(1) == answers.labels
    return {str(n): round(float(right[answers.group == n].mean()), 4) for n in np.unique(answers.group)}


def abstaining(answers: Answers, head: str, threshold: float) -> Result:
    """How many answers remain when unlikely ones are not given, and how many of these are right."""
    probability = answers.probabilities[head]
    given = probability.max(1) >= threshold
    right = probability.argmax(1) == answers.labels
    return {
        "threshold": round(threshold, 4),
        "answered": round(float(given.mean()), 4),
        "accuracy_of_answered": round(float(right[given].mean()), 4),
        "accuracy_of_the_rest": round(float(right[~given].mean()), 4) if not given.all() else None,
    }


def categories(answers: Answers, head: str, labels: Sequence[str]) -> Result:
    """Area under the ROC of those of the 26 categories that labelled faces can be examples of."""
    scores, everyone = answers.probabilities[head], np.ones((1, len(answers.labels)))
    return {
        category: round(
            float(
                area_under_roc(
                    scores[:, list(labels).index(category)], answers.labels == EKMAN.index(name), everyone
                )[0]
            ),
            4,
        )
        for category, name in LABELLED_CATEGORIES.items()
    }


def pairs(answerer: Answerer, plan: Plan, head: str, *, resamples: int) -> Result:
    """Whether the answer follows the subject, for two people of different emotions.

    own_window: as the runtime sees them. same_window: one window around both, so that only the patch weights
    tell them apart. right_singly: pairs of whom both are answered rightly when the other is not there, and
    what becomes of these when he is.
    """
    kinds: dict[str, list[tuple[int, PersonClip]]] = {"own_window": [], "same_window": [], "alone": []}
    answered: dict[str, list[Answers]] = {name: [] for name in kinds}

    def flush() -> None:
        for name, clips in kinds.items():
            if clips:
                answered[name].append(answerer.answers(clips))
                clips.clear()

    for rendered, single in zip(plan.rendered_clips((2,)), _alone(plan), strict=True):
        for name, same in (("own_window", False), ("same_window", True)):
            pair = person_pair(rendered, plan.faces, plan.spec, same_window=same)
            if pair is not None:
                kinds[name] += [(0, clip) for clip in pair]
        if len(single) == 2 and single[0].label != single[1].label:
            kinds["alone"] += [(0, clip) for clip in single]
        if len(kinds["alone"]) >= 64:
            flush()
    flush()
    predicted = {
        name: np.concatenate([part.probabilities[head].argmax(1) for part in parts])
        for name, parts in answered.items()
    }
    labels = np.concatenate([part.labels for part in answered["alone"]])
    a, b = labels[::2], labels[1::2]
    singly = (predicted["alone"][::2] == a) & (predicted["alone"][1::2] == b)
    result: Result = {
        "pairs": len(a),
        "right_singly": int(singly.sum()),
        "accuracy_alone": round(float((predicted["alone"] == labels).mean()), 4),
    }
    for name in ("own_window", "same_window"):
        first, second = predicted[name][::2], predicted[name][1::2]
        whole = SwapScorer(first, second, a, b)
        result[name] = described(whole, len(a), resamples)
        of_right = SwapScorer(first[singly], second[singly], a[singly], b[singly])
        result[name]["of_right_singly"] = described(of_right, int(singly.sum()), resamples)
    return result


def _alone(plan: Plan) -> Iterator[list[PersonClip]]:
    """Each person of each rendered clip of two people with the other one taken out."""

    def without(position: int) -> Iterator[RenderedClip]:
        def one(scene: Scene) -> Scene:
            return replace(scene, people=scene.people[position : position + 1])

        return plan.rendered_clips((2,), change=one)

    for both in zip(without(0), without(1), strict=True):
        yield [
            rendered.person_clip(person, plan.label(person), plan.spec)
            for rendered in both
            for person in rendered.scene.people
        ]


def corruptions(answerer: Answerer, plan: Plan, head: str) -> Result:
    """Accuracy on the same people, one thing wrong at a time, and the mean drop in points."""

    def accuracy(name: str) -> float:
        change = CORRUPTIONS.get(name, CLEAN)
        answers = answerer.answers(changed(plan, change))
        return float((answers.probabilities[head].argmax(1) == answers.labels).mean())

    clean = accuracy("clean")
    rows = {name: accuracy(name) for name in CORRUPTIONS}
    return {
        "clean": round(clean, 4),
        "rows": {name: round(value, 4) for name, value in rows.items()},
        "mean_drop_points": round(100 * (clean - sum(rows.values()) / len(rows)), 2),
    }


def windows(answerer: Answerer, plan: Plan, head: str) -> list[Result]:
    """A window for each person against one picture for all: accuracy, who is left out, and what it costs."""
    rows = []
    for people in CROWDS:
        own: list[tuple[int, PersonClip]] = []
        one: list[tuple[int, PersonClip]] = []
        persons = 0
        for rendered in islice(plan.rendered_clips((people,)), len(plan.faces.labels) // people):
            own += [
                (0, rendered.person_clip(person, plan.label(person), plan.spec))
                for person in rendered.scene.people
            ]
            images, shown = cut_shared_crop(rendered.frames, rendered.scene, rendered.times, plan.spec)
            one += [(0, PersonClip(images, weights, plan.label(person))) for person, weights in shown]
            persons += len(rendered.scene.people)
        row: Result = {"people": people, "persons": persons}
        for name, clips, pictures in (("own_windows", own, people), ("one_picture", one, 1)):
            answers = answerer.answers(clips)
            right = answers.probabilities[head].argmax(1) == answers.labels
            row[name] = {
                "accuracy": round(float(right.mean()), 4),
                "in_the_picture": round(len(clips) / persons, 4),
                "frame_encoder_ms": round(1000 * _seconds(answerer, plan, pictures, people), 3),
            }
        rows.append(row)
    return rows


def _seconds(answerer: Answerer, plan: Plan, pictures: int, persons: int) -> float:
    """Median seconds of the frame encoder for some persons in some pictures."""
    size, rng = plan.spec.size, np.random.default_rng(0)
    feeds = {
        "images": rng.integers(0, 256, (pictures, size, size, 3), dtype=np.uint8),
        "frame_index": np.arange(persons) % pictures,
        "patch_weights": rng.random((persons, plan.spec.patches), dtype=np.float32),
    }
    seconds = []
    for _ in range(TIMED):
        start = time.perf_counter()
        answerer.frame_encoder.run(feeds)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


class Peer:
    """A network for tight faces: (n, 64, 64, 1) grey in [-1, 1] -> probabilities of its 7 classes."""

    LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    SIZE = 64

    def __init__(self, path: Path) -> None:
        self._session = open_graph(path)
        self._input = self._session.get_inputs()[0].name
        self._order = [ekman_index(name) for name in self.LABELS]

    def probabilities(self, crops: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """(N, 7) in the order of `EKMAN`, of (64, 64) grey pictures."""
        fed = np.stack(crops).astype(np.float32)[..., None] / 127.5 - 1
        (output,) = self._session.run(None, {self._input: fed})
        ordered = np.empty_like(output, np.float64)
        ordered[:, self._order] = output
        return ordered


def peer_on_tight_faces(peer: Peer, plan: Plan, *, resamples: int) -> Result:
    """The peer on the face squares themselves."""
    import cv2  # noqa: PLC0415

    crops = [cv2.resize(image, (peer.SIZE, peer.SIZE)) for image in plan.faces.images]
    return figures(peer.probabilities(crops), plan.faces.labels, resamples=resamples)


def peer_on_scenes(peer: Peer, plan: Plan, *, resamples: int) -> Result:
    """The peer on faces cut from the scenes, its answers of all pictures of a clip averaged."""
    answers, labels = [], []
    for rendered in plan.rendered_clips():
        for person in rendered.scene.people:
            crops = [face_crop(rendered, person, frame, peer.SIZE) for frame in range(len(rendered.times))]
            answers.append(peer.probabilities(crops).mean(0))
            labels.append(plan.label(person))
    return figures(np.stack(answers), np.array(labels), resamples=resamples)


def sets(answerer: Answerer, plan: Plan) -> Mapping[str, Answers]:
    """The answers on every set that figures are taken of."""
    return {
        "scenes": answerer.answers(scenes(plan)),
        "poor_scenes": answerer.answers(scenes(plan, degraded=True)),
        "tight_faces": answerer.answers(tight_faces(plan)),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(value, 4)
