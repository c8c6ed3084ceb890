"""Metrics of a bundle on the test faces, with 95 % bootstrap intervals over faces."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from emotion_bench.accuracy_sets import CORRUPTIONS, Numbered, Plan, clean, scenes
from emotion_bench.candidates import Candidate
from emotion_bench.intervals import mean_over_classes
from emotion_bench.predictions import Predictions
from emotion_train.language.labels import EKMAN
from emotion_train.probing.bootstrap import Scorer, bootstrap_intervals, point_metrics
from emotion_train.probing.calibration import calibration_error, confidences_of
from emotion_train.probing.metrics import weighted_mean
from emotion_train.probing.scene_probe import LABELLED_CATEGORIES, SwapScorer
from emotion_train.scenes.batches import cut_shared_crop
from emotion_train.scenes.drawing import Scene
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.sets import PersonClip, pair_clips

Result = dict[str, Any]
CROWDS = (1, 3, 8)  # people in a scene


def calm_people(labels: NDArray[np.int64], chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return who is neutral or happy, and who of them is called angry, sad or afraid: (2, N)."""
    calm, negative = (
        np.isin(classes, [EKMAN.index(name) for name in names])
        for classes, names in ((labels, ("neutral", "happiness")), (chosen, ("anger", "sadness", "fear")))
    )
    return np.stack([calm, calm & negative])


def metrics(probability: NDArray[np.float64], labels: NDArray[np.int64]) -> Result:
    """Return accuracy, balanced accuracy and recalls with their intervals: of the latter two, by class."""
    right = probability.argmax(axis=1) == labels
    result = described(lambda weights: {"accuracy": weighted_mean(right, weights)}, len(labels))
    counts = {
        c: np.bincount(~right[labels == c], minlength=2)[None] for c in np.unique(labels)
    }  # right, wrong
    by_name = {"balanced_accuracy": np.concatenate(list(counts.values()))}
    for name, each in (by_name | {f"recall_{EKMAN[c]}": count for c, count in counts.items()}).items():
        value = (each[:, 0] / each.sum(axis=1)).mean()
        result[name] = _metric(value, *mean_over_classes(each, (1, 0)))
    return result


def on_votes(predictions: Predictions, faces: Faces) -> Result:
    """Return the metrics of predictions for faces with votes, of which at least one is clear.

    Accuracy, balanced accuracy and recalls are those on faces that most people see alike (`Faces.clear`),
    with the emotion that they see as the label. `ece` compares the probabilities with the votes on all faces,
    `fer2013_label` the predictions with the label of FER2013. `calm_taken_for_negative` is the fraction of
    clearly calm or happy faces that are called angry, sad or afraid.
    """
    probability, rows, chosen = predictions.probabilities, predictions.faces, predictions.chosen
    seen, clear = faces.majority[rows], faces.clear[rows]
    result = metrics(probability[clear], seen[clear])
    confidences = confidences_of(probability, seen, faces.votes[rows])
    calm, taken = clear & calm_people(seen, chosen)

    def score(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        return {
            "ece": calibration_error(confidences, weights),
            "fer2013_label": weighted_mean(chosen == faces.labels[rows], weights),
            "calm_taken_for_negative": (weights @ taken) / np.maximum(weights @ calm, 1),
        }

    return described(score, len(rows)) | result


def described(scorer: Scorer, samples: int) -> Result:
    """Return {"samples": N, NAME: {"value", "low", "high"}}; every sample is resampled on its own."""
    between = bootstrap_intervals(scorer, np.arange(samples), seed=0)
    found = point_metrics(scorer, samples)
    metrics = {name: _metric(v, *between.get(name, ())) for name, v in found.items() if not np.isnan(v)}
    return {"samples": samples, **metrics}


def _metric(value: float, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
    ends = (None if end is None or np.isnan(end) else round(float(end), 4) for end in (low, high))
    return {"value": round(float(value), 4), **dict(zip(("low", "high"), ends, strict=True))}


def share(values: NDArray[np.bool_]) -> float:
    """Return the fraction of values (N,) that are true, with four digits."""
    return round(float(values.mean()), 4)


def by_people(predictions: Predictions) -> dict[str, float]:
    """Return the accuracy by the number of people in the scene."""
    return {str(n): share(predictions.right[predictions.group == n]) for n in np.unique(predictions.group)}


def abstaining(predictions: Predictions, threshold: float) -> Result:
    """Return how many predictions reach the threshold, and how many of these and of the others are right."""
    given, right = predictions.probabilities.max(axis=1) >= threshold, predictions.right
    return {
        "threshold": round(threshold, 4),
        "answered": share(given),
        "accuracy_of_answered": share(right[given]),
        "accuracy_of_the_rest": share(right[~given]) if not given.all() else None,
    }


def categories(predictions: Predictions, labels: Sequence[str]) -> Result:
    """Return the area under the ROC curve of those of the 26 categories that have labelled faces here."""
    areas = {}
    for category, name in LABELLED_CATEGORIES.items():
        right = predictions.labels == EKMAN.index(name)
        if right.any() and not right.all():
            scores = predictions.probabilities[:, list(labels).index(category)]
            areas[category] = round(float(roc_auc_score(right, scores)), 4)
    return areas


def pairs(candidate: Candidate, plan: Plan) -> Result:
    """Measure whether the prediction follows the subject, for two people of different emotions.

    Returns:
        own_window: metrics with a crop per person, as the runtime makes them. same_window: metrics with one
        crop around both, so that only the patch weights tell them apart. right_singly: the number of pairs in
        which both predictions are right when the other person is absent; `of_right_singly` are the metrics of
        these pairs when both are there.
    """
    alone = candidate.predictions(_alone(plan))
    right, a, b = alone.right, alone.labels[::2], alone.labels[1::2]
    singly = right[::2] & right[1::2]
    result: Result = {"pairs": len(a), "right_singly": int(singly.sum()), "accuracy_alone": share(right)}
    for name, same in (("own_window", False), ("same_window", True)):
        both = pair_clips(plan.faces, plan.spec, frames=plan.frames, seed=plan.seed, same_window=same)
        chosen = candidate.predictions((0, clip) for pair in both for clip in pair).chosen
        first, second = chosen[::2], chosen[1::2]
        result[name] = described(SwapScorer(first, second, a, b), len(a))
        of_right = SwapScorer(first[singly], second[singly], a[singly], b[singly])
        result[name]["of_right_singly"] = described(of_right, int(singly.sum()))
    return result


def _alone(plan: Plan) -> Iterator[Numbered]:
    """Yield both people of each scene of two different emotions, each rendered without the other."""

    def only(position: int, scene: Scene) -> Scene:
        return replace(scene, people=scene.people[position : position + 1])

    firsts, seconds = (scenes(plan, (2,), change=partial(only, i)) for i in (0, 1))
    for first, second in zip(firsts, seconds, strict=False):  # the last face may have no second
        if first[1].label != second[1].label:
            yield from (first, second)


def corruptions(candidate: Candidate, plan: Plan) -> Result:
    """Measure the accuracy on the same people under one corruption at a time, and the mean drop in points."""
    plain, *rows = (
        float(candidate.predictions(scenes(plan, (1,), change=change)).right.mean())
        for change in (clean, *CORRUPTIONS.values())
    )
    return {
        "clean": round(plain, 4),
        "rows": {name: round(value, 4) for name, value in zip(CORRUPTIONS, rows, strict=True)},
        "mean_drop_points": round(100 * (plain - sum(rows) / len(rows)), 2),
    }


def windows(candidate: Candidate, plan: Plan) -> list[Result]:
    """Compare a crop per person with one shared crop: accuracy, and fraction of people inside."""
    rows = []
    for people in CROWDS:
        own: list[Numbered] = []
        one: list[Numbered] = []
        for rendered in islice(plan.rendered_clips((people,)), len(plan.faces.labels) // people):
            everyone, label = rendered.scene.people, plan.label
            own += [(0, rendered.person_clip(person, label(person), plan.spec)) for person in everyone]
            images, shown = cut_shared_crop(rendered.frames, rendered.scene, rendered.times, plan.spec)
            one += [(0, PersonClip(images, weights, label(who), who.face)) for who, weights in shown]
        found: Result = {
            name: {
                "accuracy": share(candidate.predictions(clips).right),
                "in_the_picture": round(len(clips) / len(own), 4),
            }
            for name, clips in (("own_windows", own), ("one_picture", one))
        }
        rows.append({"people": people, "persons": len(own), **found})
    return rows
