"""Compute all metrics of a task from predictions and targets, as functions of bootstrap weights."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from emotion_train.datasets.base import TaskKind
from emotion_train.probing.bootstrap import Metrics, Scorer, Weights
from emotion_train.probing.calibration import calibration_error, confidences_of
from emotion_train.probing.metrics import (
    Values,
    area_under_roc,
    average_precision,
    confusion_matrices,
    f1_scores,
    macro,
    pearson,
    r_squared,
    recalls,
    squared_error,
    weighted_f1,
    weighted_mean,
)

# Metrics of a whole set; the others are of one class or value each.
HEADLINE: dict[TaskKind, tuple[str, ...]] = {
    "single_label": ("accuracy", "balanced_accuracy", "weighted_f1", "ece", "ece_unscaled"),
    "multi_label": ("map", "auc", "top1", "ece", "ece_unscaled"),
    "regression": ("r2", "mse", "pcc"),
}


def single_label_scorer(
    names: Sequence[str],
    scores: NDArray[np.floating],
    labels: NDArray[np.int64],
    probabilities: Mapping[str, Values],
    votes: NDArray[np.floating] | None = None,
) -> Scorer:
    """Score accuracy, balanced_accuracy, weighted_f1, recall_<class>, f1_<class>, and calibration errors.

    Args:
        names: C class names.
        scores: (N, C); the class of the largest score is the prediction.
        labels: (N,) class indices.
        probabilities: (N, C) each, by the name that their calibration error gets.
        votes: (N, C) of annotators; with them, calibration errors compare probabilities with votes.
    """
    predicted = scores.argmax(axis=1)
    confidences = {name: confidences_of(values, labels, votes) for name, values in probabilities.items()}
    present = np.bincount(labels, minlength=len(names)) > 0

    def score(weights: Weights) -> Metrics:
        confusion = confusion_matrices(predicted, labels, weights, len(names))
        found, f1 = recalls(confusion), f1_scores(confusion)
        return {
            "accuracy": weighted_mean(predicted == labels, weights),
            "balanced_accuracy": macro(found, present),
            "weighted_f1": weighted_f1(confusion),
            **{name: calibration_error(confidence, weights) for name, confidence in confidences.items()},
            **_by_name("recall", names, found),
            **_by_name("f1", names, f1),
        }

    return score


def multi_label_scorer(
    names: Sequence[str],
    scores: NDArray[np.floating],
    targets: NDArray[np.floating],
    probabilities: Mapping[str, Values],
) -> Scorer:
    """Score map, auc, top1, ap_<class>, auc_<class>, and calibration errors.

    map is the mean over the classes that have positives, auc over those that have negatives as well. top1 is
    the fraction of samples whose label set contains the class of the largest score.

    Args:
        names: C class names.
        scores: (N, C), compared within a class.
        targets: (N, C) of 0 and 1.
        probabilities: See `single_label_scorer`.
    """
    ranks, positives = scores.astype(np.float64), targets > 0
    top_is_correct = positives[np.arange(len(scores)), scores.argmax(axis=1)]
    confidences = {name: confidences_of(values, targets) for name, values in probabilities.items()}
    has_positives = np.asarray(positives.any(axis=0))
    has_both = np.asarray(has_positives & ~positives.all(axis=0))

    def score(weights: Weights) -> Metrics:
        columns = [(ranks[:, c], positives[:, c], weights) for c in range(len(names))]
        precision = np.stack([average_precision(*column) for column in columns], axis=1)
        area = np.stack([area_under_roc(*column) for column in columns], axis=1)
        return {
            "map": macro(precision, has_positives),
            "auc": macro(area, has_both),
            "top1": weighted_mean(top_is_correct, weights),
            **{name: calibration_error(confidence, weights) for name, confidence in confidences.items()},
            **_by_name("ap", names, precision),
            **_by_name("auc", names, area),
        }

    return score


def regression_scorer(
    names: Sequence[str], predicted: NDArray[np.floating], targets: NDArray[np.floating]
) -> Scorer:
    """Score r2, mse and pcc, as means over the values and for each value.

    r2 and pcc leave out a value that is constant in `targets`.

    Args:
        names: V names of the values.
        predicted: (N, V).
        targets: (N, V).
    """
    predictions, truth = predicted.astype(np.float64), targets.astype(np.float64)
    varies = np.ptp(truth, axis=0) > 0

    def score(weights: Weights) -> Metrics:
        by_kind = {
            "r2": r_squared(predictions, truth, weights),
            "mse": squared_error(predictions, truth, weights),
            "pcc": pearson(predictions, truth, weights),
        }
        metrics: Metrics = {kind: macro(values, varies | (kind == "mse")) for kind, values in by_kind.items()}
        for kind, values in by_kind.items():
            metrics |= _by_name(kind, names, values)
        return metrics

    return score


def _by_name(kind: str, names: Sequence[str], columns: Values) -> Metrics:
    return {f"{kind}_{name}": columns[:, index] for index, name in enumerate(names)}
