"""Metrics against scikit-learn and SciPy on samples that are really repeated, and against slow loops."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    r2_score,
    recall_score,
    roc_auc_score,
)

from emotion_train.probing import metrics

RNG = np.random.default_rng(7)
CLASSES = 4
LABELS = RNG.integers(0, CLASSES, 60)
PREDICTED = np.where(RNG.random(60) < 0.5, LABELS, RNG.integers(0, CLASSES, 60))
SCORES = np.round(RNG.normal(size=60), 1)  # with ties
POSITIVES = SCORES + RNG.normal(size=60) > 0.5
TARGETS = RNG.normal(size=(60, 2)) * [1, 5] + [3, 1000]
ANSWERS = TARGETS + RNG.normal(size=(60, 2))
WEIGHTS = np.stack([np.ones(60), *RNG.multinomial(60, np.full(60, 1 / 60), 3)]).astype(float)


def each(compute: Callable[[np.ndarray], object]) -> np.ndarray:
    """What `compute` says of the rows that each resample has, drawn out."""
    return np.array([compute(np.repeat(np.arange(60), row.astype(int))) for row in WEIGHTS])


def test_recall_and_f1():
    confusion = metrics.confusion_matrices(PREDICTED, LABELS, WEIGHTS, CLASSES)

    def by_class(score: Callable[..., np.ndarray]) -> np.ndarray:
        return each(lambda rows: score(LABELS[rows], PREDICTED[rows], labels=range(CLASSES), average=None))

    np.testing.assert_allclose(metrics.recalls(confusion), by_class(recall_score))
    np.testing.assert_allclose(metrics.f1_scores(confusion), by_class(f1_score))
    expected = each(lambda rows: f1_score(LABELS[rows], PREDICTED[rows], average="weighted"))
    np.testing.assert_allclose(metrics.weighted_f1(confusion), expected)


def test_confusion_by_hand():
    confusion = metrics.confusion_matrices(
        np.array([0, 1, 1]), np.array([0, 0, 2]), np.array([[1.0, 2, 4]]), 3
    )
    np.testing.assert_array_equal(confusion, [[[1, 2, 0], [0, 0, 0], [0, 4, 0]]])
    np.testing.assert_array_equal(metrics.recalls(confusion), [[1 / 3, np.nan, 0]])
    np.testing.assert_array_equal(metrics.f1_scores(confusion), [[0.5, 0, 0]])


def test_average_precision():
    expected = each(lambda rows: average_precision_score(POSITIVES[rows], SCORES[rows]))
    np.testing.assert_allclose(metrics.average_precision(SCORES, POSITIVES, WEIGHTS), expected)


def test_area_under_roc_is_a_count_of_pairs():
    def count(rows: np.ndarray) -> float:
        above = [
            1.0 if a > b else 0.5 if a == b else 0.0
            for a in SCORES[rows][POSITIVES[rows]]
            for b in SCORES[rows][~POSITIVES[rows]]
        ]
        return sum(above) / len(above)

    found = metrics.area_under_roc(SCORES, POSITIVES, WEIGHTS)
    np.testing.assert_allclose(found, each(count))
    np.testing.assert_allclose(found, each(lambda rows: roc_auc_score(POSITIVES[rows], SCORES[rows])))


@pytest.mark.parametrize("all_are", [True, False])
def test_a_class_without_positives_or_negatives_is_undefined(*, all_are: bool):
    positives = np.full(60, all_are)
    precision = metrics.average_precision(SCORES, positives, WEIGHTS)
    np.testing.assert_array_equal(precision, np.full(4, 1.0 if all_are else np.nan))
    assert np.isnan(metrics.area_under_roc(SCORES, positives, WEIGHTS)).all()


def test_macro_is_a_mean_of_the_same_classes_or_none():
    by_class = np.array([[0.5, np.nan, 1.0], [0.25, 0.0, 0.75], [np.nan, 0.5, 1.0]])
    np.testing.assert_array_equal(metrics.macro(by_class, np.array([True, False, True])), [0.75, 0.5, np.nan])
    np.testing.assert_array_equal(metrics.macro(by_class, np.zeros(3, bool)), [np.nan] * 3)


def test_regression():
    mse = each(lambda rows: ((ANSWERS[rows] - TARGETS[rows]) ** 2).mean(axis=0))
    np.testing.assert_allclose(metrics.squared_error(ANSWERS, TARGETS, WEIGHTS), mse)
    r2 = each(lambda rows: r2_score(TARGETS[rows], ANSWERS[rows], multioutput="raw_values"))
    np.testing.assert_allclose(metrics.r_squared(ANSWERS, TARGETS, WEIGHTS), r2)
    correlation = each(lambda rows: [pearsonr(ANSWERS[rows, v], TARGETS[rows, v])[0] for v in (0, 1)])
    np.testing.assert_allclose(metrics.pearson(ANSWERS, TARGETS, WEIGHTS), correlation)


def test_regression_without_spread_is_not_defined():
    constant = np.column_stack([np.full(60, 0.1), TARGETS[:, 1]])  # 0.1 has no exact mean
    np.testing.assert_array_equal(
        np.isnan(metrics.r_squared(ANSWERS, constant, WEIGHTS)), [[True, False]] * 4
    )
    for predictions, targets in ((ANSWERS, constant), (constant, TARGETS)):
        np.testing.assert_array_equal(
            np.isnan(metrics.pearson(predictions, targets, WEIGHTS)), [[True, False]] * 4
        )


def test_no_warning_is_left_to_the_reader():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.average_precision(SCORES, np.zeros(60, bool), WEIGHTS)
        metrics.macro(np.full((2, 3), np.nan), np.ones(3, bool))
        metrics.f1_scores(np.zeros((1, 3, 3)))
