"""Metrics of a bundle on the test faces, with 95 % bootstrap intervals over faces."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_bench.accuracy_sets import CLEAN, CORRUPTIONS, Plan, aligned_faces, changed, scenes
from emotion_bench.predictions import Predictions, Predictor
from emotion_bench.rounds import median_seconds
from emotion_train.language.labels import EKMAN
from emotion_train.probing.bootstrap import Scorer, bootstrap_intervals, point_metrics
from emotion_train.probing.calibration import calibration_error, confidences_of
from emotion_train.probing.metrics import area_under_roc, weighted_mean
from emotion_train.probing.scene_probe import LABELLED_CATEGORIES, SwapScorer
from emotion_train.probing.scorers import single_label_scorer
from emotion_train.scenes.batches import cut_shared_crop
from emotion_train.scenes.drawing import Scene
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.sets import PersonClip, RenderedClip, person_pair

Result = dict[str, Any]
CROWDS = (1, 3, 8)  # people in a scene
# The metrics of every test set, beside the recall of each class.
KEPT = ("accuracy", "balanced_accuracy", "ece")
CALM = ("neutral", "happiness")
NEGATIVE = ("anger", "sadness", "fear")


def metrics(probability: NDArray[np.float64], labels: NDArray[np.int64], *, resamples: int) -> Result:
    """Return accuracy, balanced accuracy, calibration error and recalls, each with its interval."""
    scorer = single_label_scorer(EKMAN, probability, labels, {"ece": probability})
    kept = {*KEPT, *(f"recall_{name}" for name in EKMAN)}
    return described(scorer, len(labels), resamples, kept)


def on_votes(predictions: Predictions, head: str, faces: Faces, *, resamples: int) -> Result:
    """Return the metrics of predictions for faces with votes.

    Accuracy, balanced accuracy and recalls are those on faces that most people see alike (`Faces.clear`),
    with the emotion that they see as the label. `ece` compares the probabilities with the votes on all faces,
    `fer2013_label` the predictions with the label of FER2013. `calm_taken_for_negative` is the fraction of
    clearly calm or happy faces that are called angry, sad or afraid.

    Args:
        predictions: Of some of the faces, at least one of them clear.
        head: Name of the head.
        faces: The faces, with the labels of FER2013.
        resamples: Number of bootstrap resamples.
    """
    probability, rows = predictions.probabilities[head], predictions.faces
    seen, clear = faces.majority[rows], faces.clear[rows]
    result = metrics(probability[clear], seen[clear], resamples=resamples)
    everyone = np.arange(len(rows))
    confidences = confidences_of(probability, seen, faces.votes[rows])
    chosen = probability.argmax(axis=1)
    calm = clear & np.isin(seen, [EKMAN.index(name) for name in CALM])
    negative = np.isin(chosen, [EKMAN.index(name) for name in NEGATIVE])

    def score(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return {
            "ece": calibration_error(confidences, weights),
            "fer2013_label": weighted_mean(chosen == faces.labels[rows], weights),
            "calm_taken_for_negative": (weights @ (calm & negative)) / np.maximum(weights @ calm, 1),
        }

    more = described(score, len(everyone), resamples)
    return result | {name: value for name, value in more.items() if name != "samples"}


def described(scorer: Scorer, samples: int, resamples: int, kept: set[str] | None = None) -> Result:
    """Return {"samples": N, NAME: {"value", "low", "high"}}; every sample is resampled on its own."""
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


def by_people(predictions: Predictions, head: str) -> dict[str, float]:
    """Return the accuracy by the number of people in the scene."""
    right = predictions.probabilities[head].argmax(1) == predictions.labels
    return {
        str(n): round(float(right[predictions.group == n].mean()), 4) for n in np.unique(predictions.group)
    }


def abstaining(predictions: Predictions, head: str, threshold: float) -> Result:
    """Return how many predictions reach the threshold, and how many of these and of the others are right."""
    probability = predictions.probabilities[head]
    given = probability.max(1) >= threshold
    right = probability.argmax(1) == predictions.labels
    return {
        "threshold": round(threshold, 4),
        "answered": round(float(given.mean()), 4),
        "accuracy_of_answered": round(float(right[given].mean()), 4),
        "accuracy_of_the_rest": round(float(right[~given].mean()), 4) if not given.all() else None,
    }


def categories(predictions: Predictions, head: str, labels: Sequence[str]) -> Result:
    """Return the area under the ROC curve of those of the 26 categories that have labelled faces here."""
    scores, everyone = predictions.probabilities[head], np.ones((1, len(predictions.labels)))
    areas = {}
    for category, name in LABELLED_CATEGORIES.items():
        right = predictions.labels == EKMAN.index(name)
        area = area_under_roc(scores[:, list(labels).index(category)], right, everyone)[0]
        areas[category] = round(float(area), 4)
    return areas


def pairs(predictor: Predictor, plan: Plan, head: str, *, resamples: int) -> Result:
    """Measure whether the prediction follows the subject, for two people of different emotions.

    Returns:
        own_window: metrics with a crop per person, as the runtime makes them. same_window: metrics with one
        crop around both, so that only the patch weights tell them apart. right_singly: the number of pairs in
        which both predictions are right when the other person is absent; `of_right_singly` are the metrics of
        these pairs when both are there.
    """
    kinds: dict[str, list[tuple[int, PersonClip]]] = {"own_window": [], "same_window": [], "alone": []}
    collected: dict[str, list[Predictions]] = {name: [] for name in kinds}

    def flush() -> None:
        for name, clips in kinds.items():
            if clips:
                collected[name].append(predictor.predictions(clips))
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
        for name, parts in collected.items()
    }
    labels = np.concatenate([part.labels for part in collected["alone"]])
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
    """Yield both people of each rendered clip of two, each rendered without the other."""

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


def corruptions(predictor: Predictor, plan: Plan, head: str) -> Result:
    """Measure the accuracy on the same people under one corruption at a time, and the mean drop in points."""

    def accuracy(name: str) -> float:
        change = CORRUPTIONS.get(name, CLEAN)
        predictions = predictor.predictions(changed(plan, change))
        return float((predictions.probabilities[head].argmax(1) == predictions.labels).mean())

    clean = accuracy("clean")
    rows = {name: accuracy(name) for name in CORRUPTIONS}
    return {
        "clean": round(clean, 4),
        "rows": {name: round(value, 4) for name, value in rows.items()},
        "mean_drop_points": round(100 * (clean - sum(rows.values()) / len(rows)), 2),
    }


def windows(predictor: Predictor, plan: Plan, head: str) -> list[Result]:
    """Compare a crop per person with one shared crop: accuracy, fraction of people inside, and time."""
    rows = []
    for people in CROWDS:
        own: list[tuple[int, PersonClip]] = []
        one: list[tuple[int, PersonClip]] = []
        persons = 0
        for rendered in islice(plan.rendered_clips((people,)), len(plan.faces.labels) // people):
            everyone, label = rendered.scene.people, plan.label
            own += [(0, rendered.person_clip(person, label(person), plan.spec)) for person in everyone]
            images, shown = cut_shared_crop(rendered.frames, rendered.scene, rendered.times, plan.spec)
            one += [(0, PersonClip(images, weights, label(who), who.face)) for who, weights in shown]
            persons += len(rendered.scene.people)
        row: Result = {"people": people, "persons": persons}
        for name, clips, crops in (("own_windows", own, people), ("one_picture", one, 1)):
            predictions = predictor.predictions(clips)
            right = predictions.probabilities[head].argmax(1) == predictions.labels
            row[name] = {
                "accuracy": round(float(right.mean()), 4),
                "in_the_picture": round(len(clips) / persons, 4),
                "frame_encoder_ms": round(1000 * _seconds(predictor, plan, crops, people), 3),
            }
        rows.append(row)
    return rows


def _seconds(predictor: Predictor, plan: Plan, images: int, persons: int) -> float:
    """Return the seconds of the frame encoder for a number of people in a number of images."""
    size, rng = plan.spec.size, np.random.default_rng(0)
    feeds: dict[str, NDArray[Any]] = {
        "images": rng.integers(0, 256, (images, size, size, 3), dtype=np.uint8),
        "frame_index": np.arange(persons) % images,
        "patch_weights": rng.random((persons, plan.spec.patches), dtype=np.float32),
    }
    return median_seconds(partial(predictor.frame_encoder.run, feeds))


def sets(predictor: Predictor, plan: Plan) -> Mapping[str, Predictions]:
    """Return the predictions on every test set."""
    return {
        "scenes": predictor.predictions(scenes(plan)),
        "poor_scenes": predictor.predictions(scenes(plan, degraded=True)),
        "tight_faces": predictor.predictions(aligned_faces(plan)),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(value, 4)
