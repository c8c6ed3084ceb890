"""Fit the protocol's linear classifiers on frozen features.

Source: paper Sec. 4.1 and the authors' protocol: scikit-learn, solver sag, at most 2000 iterations.
"""

import numpy as np
from numpy.typing import NDArray

from emotion_train.probing.features import Features

Linear = tuple[NDArray[np.float32], NDArray[np.float32]]  # weight (C, D), bias (C,)

MAX_ITER = 2000
SOLVER = "sag"
RIDGE_ALPHA = 1.0


def fit_logistic(features: Features, labels: NDArray[np.int64], *, c: float, seed: int) -> Linear:
    """Fit a multinomial logistic regression.

    Args:
        features: (N, D).
        labels: (N,), every class 0..C-1 at least once.
        c: Inverse regularisation strength.
        seed: Of the solver.

    Returns:
        C rows of weights, also for two classes: their softmax is the one logistic function that scikit-learn
        fits.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - slow to import

    classifier = LogisticRegression(C=c, solver=SOLVER, max_iter=MAX_ITER, random_state=seed)
    classifier.fit(features, labels)
    weight, bias = classifier.coef_, classifier.intercept_
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return np.asarray(weight, np.float32), np.asarray(bias, np.float32)


def fit_votes(features: Features, votes: NDArray[np.floating], *, c: float) -> Linear:
    """Fit a multinomial logistic regression whose targets are distributions instead of labels.

    The optimum is unique, so there is no seed; with votes for one class only it is that of `fit_logistic`.

    Args:
        features: (N, D).
        votes: (N, C), rows that sum to 1.
        c: Inverse regularisation strength, as in scikit-learn.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - slow to import

    x, y = features.astype(np.float64), votes.astype(np.float64)
    shape = (y.shape[1], x.shape[1] + 1)  # the last column is the bias, which is not regularised

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        parameters = flat.reshape(shape)
        logits = x @ parameters[:, :-1].T + parameters[:, -1]
        logits -= logits.max(axis=1, keepdims=True)
        log_total = np.log(np.exp(logits).sum(axis=1, keepdims=True))
        value = c * float((y * (log_total - logits)).sum()) + 0.5 * float((parameters[:, :-1] ** 2).sum())
        wrong = np.exp(logits - log_total) - y
        gradient = np.concatenate([c * wrong.T @ x, c * wrong.sum(axis=0)[:, None]], axis=1)
        gradient[:, :-1] += parameters[:, :-1]
        return value, gradient.ravel()

    found = minimize(
        loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": MAX_ITER}
    )
    parameters = found.x.reshape(shape)
    return np.asarray(parameters[:, :-1], np.float32), np.asarray(parameters[:, -1], np.float32)


def fit_one_vs_rest(features: Features, targets: NDArray[np.float32], *, c: float, seed: int) -> Linear:
    """Fit one binary logistic regression per class.

    A class that is positive in no row, or in every row, cannot be fitted: its weights are 0 and its bias is
    the log odds of its frequency, with half a row added on both sides (see `constant_classes`).

    Args:
        features: (N, D).
        targets: (N, C) of 0 and 1.
        c: Inverse regularisation strength.
        seed: Of the solver.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - slow to import

    classes = targets.shape[1]
    weight, bias = np.zeros((classes, features.shape[1]), np.float32), np.zeros(classes, np.float32)
    constant = set(constant_classes(targets))
    for index in range(classes):
        positives = targets[:, index] > 0
        if index in constant:
            bias[index] = np.log((positives.sum() + 0.5) / ((~positives).sum() + 0.5))
            continue
        classifier = LogisticRegression(C=c, solver=SOLVER, max_iter=MAX_ITER, random_state=seed)
        classifier.fit(features, positives)
        weight[index], bias[index] = classifier.coef_[0], classifier.intercept_[0]
    return weight, bias


def constant_classes(targets: NDArray[np.float32]) -> list[int]:
    """Return the indices of the classes that are positive in no row, or in every row, of targets (N, C)."""
    fraction = (targets > 0).mean(axis=0)
    return [int(index) for index in np.flatnonzero((fraction == 0) | (fraction == 1))]


def fit_ridge(features: Features, targets: NDArray[np.float32]) -> Linear:
    """Fit a ridge regression with alpha 1 on targets (N, V). The optimum is unique, so there is no seed."""
    from sklearn.linear_model import Ridge  # noqa: PLC0415 - slow to import

    regression = Ridge(alpha=RIDGE_ALPHA).fit(features.astype(np.float64), targets.astype(np.float64))
    values, width = targets.shape[1], features.shape[1]
    # scikit-learn drops the first dimension of a single value.
    weight = np.asarray(regression.coef_, np.float32).reshape(values, width)
    return weight, np.asarray(regression.intercept_, np.float32).reshape(values)
