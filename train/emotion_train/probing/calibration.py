"""Calibration: temperature scaling (Guo et al. 2017) and the expected calibration error.

With single labels, the confidence of a sample is its largest probability, and the prediction is correct if
that class is the label. With several labels, each of the C probabilities of a sample is a binary prediction
of its own, and all N * C are evaluated together.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.heads import activate
from emotion_runtime.manifest import Activation
from emotion_train.probing.metrics import Values

BINS = 15
LOG_BOUND = 3.0  # temperatures lie in exp(-3) .. exp(3)
ABSTAIN_FRACTION = 0.1
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Confidences:
    """M predicted probabilities and whether each was correct.

    Attributes:
        confidence: (M,) probabilities.
        correct: (M,) whether the predicted event was the case, or the fraction of annotators who say so.
        sample: (M,) index of the sample, 0..N-1, that a prediction is about.
    """

    confidence: Values
    correct: NDArray[np.bool_] | Values
    sample: NDArray[np.int64]


def confidences_of(
    probability: Values, targets: NDArray[Any], votes: NDArray[np.floating] | None = None
) -> Confidences:
    """Pair probabilities with whether they were correct.

    Args:
        probability: (N, C).
        targets: Labels (N,) int64, or 0 and 1 of shape (N, C).
        votes: (N, C), rows that sum to 1. With votes, a prediction is as correct as the fraction of votes for
            it says; labels are then not used.
    """
    rows = np.arange(len(probability))
    if votes is not None:
        chosen = votes[rows, probability.argmax(axis=1)].astype(np.float64)
        return Confidences(probability.max(axis=1), chosen, rows)
    if targets.ndim == 1:
        return Confidences(probability.max(axis=1), probability.argmax(axis=1) == targets, rows)
    return Confidences(probability.ravel(), targets.ravel() > 0, np.repeat(rows, probability.shape[1]))


def fit_temperature(
    logits: NDArray[np.floating], targets: NDArray[Any], activation: Activation = "softmax"
) -> float:
    """Return the temperature with the smallest negative log likelihood on held-out data.

    Args:
        logits: (N, C).
        targets: (N,) int64, or votes (N, C) that sum to 1, for a softmax; (N, C) of 0 and 1 for a sigmoid.
        activation: Of the head.

    Returns:
        A temperature between exp(-`LOG_BOUND`) and exp(`LOG_BOUND`).
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 - slow to import

    def loss(log_temperature: float) -> float:
        probability = activate(logits, activation, float(np.exp(log_temperature)))
        if targets.ndim == 1:
            likelihood = probability[np.arange(len(targets)), targets.astype(np.int64)]
        elif activation == "softmax":
            return float(-(targets * np.log(np.maximum(probability, _TINY))).sum(axis=1).mean())
        else:
            likelihood = np.where(targets > 0, probability, 1 - probability)
        return float(-np.log(np.maximum(likelihood, _TINY)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-LOG_BOUND, LOG_BOUND), method="bounded").x))


def abstain_threshold(probability: Values) -> float:
    """Return the confidence that all but a tenth of held-out samples reach; below it no label is shown.

    Args:
        probability: (N, C), calibrated.
    """
    return float(np.quantile(probability.max(axis=1), ABSTAIN_FRACTION))


def calibration_error(confidences: Confidences, weights: Values) -> Values:
    """Compute the expected calibration error: mean gap between confidence and accuracy over 15 equal bins.

    Args:
        confidences: Of N samples.
        weights: (B, N), see `metrics`.

    Returns:
        (B,) errors; bins count by the number of predictions in them.
    """
    count, confidence, correct = _by_bin(confidences, weights)
    return np.asarray(np.abs(confidence - correct).sum(axis=1) / count.sum(axis=1))


def reliability(confidences: Confidences) -> tuple[Values, Values, Values]:
    """Return the number of predictions, their mean confidence and their accuracy in each of the 15 bins."""
    samples = int(confidences.sample.max()) + 1
    count, confidence, correct = (part[0] for part in _by_bin(confidences, np.ones((1, samples))))
    divisor = np.maximum(count, _TINY)
    return count, confidence / divisor, correct / divisor


def _by_bin(confidences: Confidences, weights: Values) -> tuple[Values, Values, Values]:
    """Sum over the predictions of each bin: 1, confidence, correct; each (B, 15)."""
    bins = np.minimum((confidences.confidence * BINS).astype(np.int64), BINS - 1)
    cells = confidences.sample * BINS + bins
    samples = weights.shape[1]

    def totals(values: NDArray[np.generic]) -> Values:
        table = np.bincount(cells, values.astype(np.float64), samples * BINS).reshape(samples, BINS)
        return np.asarray(weights @ table)

    return totals(np.ones(len(cells))), totals(confidences.confidence), totals(confidences.correct)
