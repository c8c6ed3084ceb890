"""The protocol's classifiers against their own optimality conditions and closed forms."""

import numpy as np
import pytest

from emotion_runtime.heads import activate
from emotion_train.probing.classifiers import constant_classes, fit_logistic, fit_one_vs_rest, fit_ridge

RNG = np.random.default_rng(11)
FEATURES = RNG.normal(size=(300, 6)).astype(np.float32)
FEATURES /= np.linalg.norm(FEATURES, axis=1, keepdims=True)


def sampled_labels(classes: int) -> np.ndarray:
    """Drawn from a softmax over the features, so that no classifier separates them."""
    logits = FEATURES @ RNG.normal(size=(6, classes)) * 3
    return (logits + RNG.gumbel(size=logits.shape)).argmax(axis=1)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_logistic_regression_is_at_its_optimum(classes: int):
    """The gradient of sum of log losses + |W|^2 / (2 C) is zero, with bias free of the penalty."""
    c, labels = 3.16, sampled_labels(classes)
    weight, bias = fit_logistic(FEATURES, labels, c=c, seed=0)
    assert weight.shape == (classes, 6)
    assert weight.dtype == bias.dtype == np.float32
    rest = activate(FEATURES @ weight.T + bias, "softmax") - np.eye(classes)[labels]
    # With two classes scikit-learn penalises one vector w, of which ours are the halves -w/2 and w/2.
    penalty = weight * (2 if classes == 2 else 1)
    np.testing.assert_allclose(rest.T @ FEATURES + penalty / c, 0, atol=0.05)
    np.testing.assert_allclose(rest.sum(axis=0), 0, atol=0.05)


def test_one_against_the_rest_is_at_its_optimum():
    c = 10.0
    noise = RNG.logistic(size=(300, 4))
    targets = (FEATURES @ RNG.normal(size=(6, 4)) * 3 - 1 > noise).astype(np.float32)
    weight, bias = fit_one_vs_rest(FEATURES, targets, c=c, seed=0)
    rest = activate(FEATURES @ weight.T + bias, "sigmoid") - targets
    np.testing.assert_allclose(rest.T @ FEATURES + weight / c, 0, atol=0.05)
    np.testing.assert_allclose(rest.sum(axis=0), 0, atol=0.05)


def test_constant_classes_get_a_constant_prediction():
    targets = np.zeros((300, 3), np.float32)
    targets[:, 1] = RNG.random(300) < 0.5
    targets[:, 2] = 1
    assert constant_classes(targets) == [0, 2]
    weight, bias = fit_one_vs_rest(FEATURES, targets, c=1.0, seed=0)
    assert not weight[[0, 2]].any()
    assert weight[1].any()
    probability = activate(bias[None], "sigmoid")[0]
    assert probability[[0, 2]] == pytest.approx([0.5 / 301, 300.5 / 301])


@pytest.mark.parametrize("values", [1, 3])
def test_ridge_solves_the_normal_equations(values: int):
    noise = RNG.normal(size=(300, values)) + [5, 0, -2][:values]
    targets = (FEATURES @ RNG.normal(size=(6, values)) + noise).astype(np.float32)
    weight, bias = fit_ridge(FEATURES, targets)
    x = FEATURES.astype(float) - FEATURES.mean(axis=0, dtype=float)
    expected = np.linalg.solve(x.T @ x + np.eye(6), x.T @ targets).T  # alpha 1, the mean not penalised
    np.testing.assert_allclose(weight, expected, atol=1e-5)
    np.testing.assert_allclose(
        bias, targets.mean(axis=0, dtype=float) - expected @ FEATURES.mean(axis=0, dtype=float), atol=1e-5
    )
