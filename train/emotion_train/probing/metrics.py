"""Figures of the protocol for weighted samples, so that a bootstrap needs no loop over resamples.

weights: (B, N), one row a resample; row b says how often each of the N samples was drawn. A row of ones is
the data as it is, and gives what scikit-learn gives. Each function returns one metric a row; NaN where a
metric is not defined: no positive, no negative, or no spread.
"""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Labels = NDArray[np.int64]
Hits = NDArray[np.bool_]


def weighted_mean(values: NDArray[np.generic], weights: Values) -> Values:
    """Mean of values (N,), or of each column of (N, V): (B,) or (B, V)."""
    total = weights.sum(axis=1)
    sums = weights @ values.astype(np.float64)
    return np.asarray(sums / (total if values.ndim == 1 else total[:, None]))


def confusion_matrices(predicted: Labels, labels: Labels, weights: Values, classes: int) -> Values:
    """(B, C, C): weight of samples of each true class (row) under each predicted class (column)."""
    cells = labels * classes + predicted
    counted = [np.bincount(cells, row, classes**2) for row in weights]
    return np.stack(counted).astype(np.float64).reshape(-1, classes, classes)


def recalls(confusion: Values) -> Values:
    """(B, C): share of each class that was found; NaN for a class without samples."""
    return _ratio(np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=2))


def f1_scores(confusion: Values) -> Values:
    """(B, C): 2 right / (true + answered); NaN for a class that is neither."""
    right = np.diagonal(confusion, axis1=1, axis2=2)
    return _ratio(2 * right, confusion.sum(axis=2) + confusion.sum(axis=1))


def weighted_f1(confusion: Values) -> Values:
    """(B,): F1 of the classes, each as heavy as it has samples."""
    heavy = confusion.sum(axis=2)
    return np.asarray((np.nan_to_num(f1_scores(confusion)) * heavy).sum(axis=1) / heavy.sum(axis=1))


def macro(by_class: Values, counted: Hits) -> Values:
    """(B,): mean over the classes that count, (C,) of booleans; NaN where one of them is not defined.

    The classes that are defined on the data as it is are those that count: a resample that happens to lack
    one of them is no mean of the same classes, and so is none.
    """
    return np.asarray(by_class[:, counted].mean(axis=1) if counted.any() else by_class[:, 0] * np.nan)


def average_precision(scores: Values, positives: Hits, weights: Values) -> Values:
    """Area under the precision-recall curve of one class, as the sum over steps of recall.

    scores, positives: (N,). Equal scores are one step.
    """
    order, ends = _steps(scores)
    drawn = weights[:, order]
    hits = np.cumsum(drawn * positives[order], axis=1)[:, ends]
    taken = np.cumsum(drawn, axis=1)[:, ends]
    gained = np.diff(hits, axis=1, prepend=0)
    precision = np.divide(hits, taken, out=np.zeros_like(hits), where=taken > 0)
    return _ratio((gained * precision).sum(axis=1), hits[:, -1])


def area_under_roc(scores: Values, positives: Hits, weights: Values) -> Values:
    """Share of pairs of a positive and a negative that the scores order rightly; equal scores count half."""
    order, ends = _steps(scores)
    drawn = weights[:, order]
    positive = np.cumsum(drawn * positives[order], axis=1)[:, ends]
    negative = np.cumsum(drawn * ~positives[order], axis=1)[:, ends]
    gained = np.diff(positive, axis=1, prepend=0)
    level = np.diff(negative, axis=1, prepend=0)
    below = negative[:, -1:] - negative
    return _ratio((gained * (below + level / 2)).sum(axis=1), positive[:, -1] * negative[:, -1])


def squared_error(predicted: Values, targets: Values, weights: Values) -> Values:
    """(B, V): mean squared error of each value; predicted, targets: (N, V)."""
    return weighted_mean((predicted - targets) ** 2, weights)


def r_squared(predicted: Values, targets: Values, weights: Values) -> Values:
    """(B, V): 1 - squared error / variance of the targets; NaN where these are all equal."""
    _, _, varies = _moments(targets, weights)
    return 1 - _ratio(squared_error(predicted, targets, weights), varies)


def pearson(predicted: Values, targets: Values, weights: Values) -> Values:
    """(B, V): correlation of each value; NaN where predictions or targets are all equal."""
    shifted_p, mean_p, varies_p = _moments(predicted, weights)
    shifted_t, mean_t, varies_t = _moments(targets, weights)
    together = weighted_mean(shifted_p * shifted_t, weights) - mean_p * mean_t
    return _ratio(together, np.sqrt(varies_p * varies_t))


def _moments(values: Values, weights: Values) -> tuple[Values, Values, Values]:
    """Values about their plain mean, and by row the mean and variance of these."""
    shifted = values - values.mean(axis=0)  # or the difference of two large squares would lose its digits
    mean = weighted_mean(shifted, weights)
    variance = weighted_mean(shifted**2, weights) - mean**2
    nothing = 1e-12 * np.maximum((shifted**2).max(axis=0, initial=0), 1e-24)
    return shifted, mean, np.where(variance > nothing, variance, 0)


def _steps(scores: Values) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Order from the highest score down, and the last place of each run of equal scores."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    return order, np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)


def _ratio(above: Values, below: Values) -> Values:
    """NaN where there is nothing to divide by."""
    return np.asarray(np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0))
