"""The protocol's metrics for weighted samples, so that a bootstrap needs no loop over resamples.

All functions take `weights` (B, N): row b holds how often each of the N samples was drawn in resample b. With
a row of ones, the results are those of scikit-learn. Each function returns one value per row, NaN where the
metric is undefined: no positives, no negatives, or no variance.
"""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Labels = NDArray[np.int64]
Hits = NDArray[np.bool_]


def weighted_mean(values: NDArray[np.generic], weights: Values) -> Values:
    """Return the mean of values (N,) as (B,), or of each column of (N, V) as (B, V)."""
    total = weights.sum(axis=1)
    sums = weights @ values.astype(np.float64)
    return np.asarray(sums / (total if values.ndim == 1 else total[:, None]))


def confusion_matrices(predicted: Labels, labels: Labels, weights: Values, classes: int) -> Values:
    """Return (B, C, C): the weight of the samples of each true class (row) and predicted class (column)."""
    cells = labels * classes + predicted
    counted = [np.bincount(cells, row, classes**2) for row in weights]
    return np.stack(counted).astype(np.float64).reshape(-1, classes, classes)


def recalls(confusion: Values) -> Values:
    """Return the recall of each class, (B, C); NaN for a class without samples."""
    return _ratio(np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=2))


def f1_scores(confusion: Values) -> Values:
    """Return F1 of each class, (B, C): 2 TP / (actual + predicted); NaN for a class with neither."""
    correct = np.diagonal(confusion, axis1=1, axis2=2)
    return _ratio(2 * correct, confusion.sum(axis=2) + confusion.sum(axis=1))


def weighted_f1(confusion: Values) -> Values:
    """Return the mean F1 over classes weighted by their number of samples, (B,)."""
    support = confusion.sum(axis=2)
    return np.asarray((np.nan_to_num(f1_scores(confusion)) * support).sum(axis=1) / support.sum(axis=1))


def macro(by_class: Values, counted: Hits) -> Values:
    """Return the mean over classes, (B,).

    Args:
        by_class: (B, C).
        counted: (C,) classes to include: those for which the metric is defined on the data themselves. A
            resample missing one of these classes is not comparable and yields NaN.
    """
    return np.asarray(by_class[:, counted].mean(axis=1) if counted.any() else by_class[:, 0] * np.nan)


def average_precision(scores: Values, positives: Hits, weights: Values) -> Values:
    """Return the average precision of one class: precision summed over the steps of recall.

    Args:
        scores: (N,); equal scores form one step.
        positives: (N,).
        weights: (B, N).
    """
    order, ends = _steps(scores)
    drawn = weights[:, order]
    hits = np.cumsum(drawn * positives[order], axis=1)[:, ends]
    taken = np.cumsum(drawn, axis=1)[:, ends]
    gained = np.diff(hits, axis=1, prepend=0)
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    return _ratio((gained * precision).sum(axis=1), hits[:, -1])


def area_under_roc(scores: Values, positives: Hits, weights: Values) -> Values:
    """Return the fraction of (positive, negative) pairs that the scores rank correctly; ties count half."""
    order, ends = _steps(scores)
    drawn = weights[:, order]
    positive = np.cumsum(drawn * positives[order], axis=1)[:, ends]
    negative = np.cumsum(drawn * ~positives[order], axis=1)[:, ends]
    gained = np.diff(positive, axis=1, prepend=0)
    level = np.diff(negative, axis=1, prepend=0)
    below = negative[:, -1:] - negative
    return _ratio((gained * (below + level / 2)).sum(axis=1), positive[:, -1] * negative[:, -1])


def squared_error(predicted: Values, targets: Values, weights: Values) -> Values:
    """Return the mean squared error of each value, (B, V), for predicted and targets (N, V)."""
    return weighted_mean((predicted - targets) ** 2, weights)


def r_squared(predicted: Values, targets: Values, weights: Values) -> Values:
    """Return 1 - squared error / variance of the targets, (B, V); NaN where the targets are all equal."""
    _, _, variance = _moments(targets, weights)
    return 1 - _ratio(squared_error(predicted, targets, weights), variance)


def pearson(predicted: Values, targets: Values, weights: Values) -> Values:
    """Return Pearson's correlation of each value, (B, V); NaN where predictions or targets are all equal."""
    shifted_p, mean_p, variance_p = _moments(predicted, weights)
    shifted_t, mean_t, variance_t = _moments(targets, weights)
    covariance = weighted_mean(shifted_p * shifted_t, weights) - mean_p * mean_t
    return _ratio(covariance, np.sqrt(variance_p * variance_t))


def _moments(values: Values, weights: Values) -> tuple[Values, Values, Values]:
    """Return the values minus their unweighted mean, and the weighted mean and variance of the result."""
    shifted = values - values.mean(axis=0)  # else the difference of two large squares loses its digits
    mean = weighted_mean(shifted, weights)
    variance = weighted_mean(shifted**2, weights) - mean**2
    rounding = 1e-12 * np.maximum((shifted**2).max(axis=0, initial=0), 1e-24)
    return shifted, mean, np.where(variance > rounding, variance, 0)


def _steps(scores: Values) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the order from the highest score down, and the last position of each run of equal scores."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    return order, np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)


def _ratio(above: Values, below: Values) -> Values:
    """Divide; NaN where the denominator is not positive."""
    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0))
