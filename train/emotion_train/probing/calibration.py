"""Are the probabilities right? Temperature scaling (Guo et al. 2017) and the expected calibration error.

Single labels: the confidence is the largest probability, and being right is being the label. Several labels:
each of the C probabilities of a sample says yes or no for itself, and all N * C are judged together.
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
    """M probabilities with whether each came true; sample: (M,) which of the N samples it is about."""

    confidence: Values
    correct: NDArray[np.bool_]
    sample: NDArray[np.int64]


def confidences_of(probability: Values, targets: NDArray[Any]) -> Confidences:
    """The confidences of probabilities (N, C); targets: labels (N,) int64, or 0 and 1 of shape (N, C)."""
    rows = np.arange(len(probability))
    if targets.ndim == 1:
        return Confidences(probability.max(axis=1), probability.argmax(axis=1) == targets, rows)
    return Confidences(probability.ravel(), targets.ravel() > 0, np.repeat(rows, probability.shape[1]))


def fit_temperature(
    logits: NDArray[np.floating], targets: NDArray[Any], activation: Activation = "softmax"
) -> float:
    """The temperature of least negative log likelihood, within exp of `LOG_BOUND`; fit it on held-out data.

    targets: (N,) int64 for a softmax, (N, C) of 0 and 1 for a sigmoid.
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 - slow to import

    def loss(log_temperature: float) -> float:
        probability = activate(logits, activation, float(np.exp(log_temperature)))
        if targets.ndim == 1:
            likelihood = probability[np.arange(len(targets)), targets.astype(np.int64)]
        else:
            likelihood = np.where(targets > 0, probability, 1 - probability)
        return float(-np.log(np.maximum(likelihood, _TINY)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-LOG_BOUND, LOG_BOUND), method="bounded").x))


def abstain_threshold(probability: Values) -> float:
    """The confidence that all but a tenth of held-out samples reach; probability: (N, C), calibrated.

    Under it the largest probability is right less often than elsewhere, and a label says more than is known.
    """
    return float(np.quantile(probability.max(axis=1), ABSTAIN_FRACTION))


def calibration_error(confidences: Confidences, weights: Values) -> Values:
    """(B,): mean gap between confidence and truth over 15 equal bins, weighted by their size.

    weights: (B, N) over samples, as in `metrics`.
    """
    share, confidence, truth = _by_bin(confidences, weights)
    return np.asarray(np.abs(confidence - truth).sum(axis=1) / share.sum(axis=1))


def reliability(confidences: Confidences) -> tuple[Values, Values, Values]:
    """Of each of the 15 bins: number of confidences, their mean confidence, the share that came true."""
    samples = int(confidences.sample.max()) + 1
    share, confidence, truth = (part[0] for part in _by_bin(confidences, np.ones((1, samples))))
    held = np.maximum(share, _TINY)
    return share, confidence / held, truth / held


def _by_bin(confidences: Confidences, weights: Values) -> tuple[Values, Values, Values]:
    """(B, 15) sums over the confidences of each bin: 1, confidence, came true."""
    bins = np.minimum((confidences.confidence * BINS).astype(np.int64), BINS - 1)
    cells = confidences.sample * BINS + bins
    samples = weights.shape[1]

    def totals(values: NDArray[np.generic]) -> Values:
        table = np.bincount(cells, values.astype(np.float64), samples * BINS).reshape(samples, BINS)
        return np.asarray(weights @ table)

    return totals(np.ones(len(cells))), totals(confidences.confidence), totals(confidences.correct)
