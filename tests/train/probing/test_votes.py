"""Probes on votes instead of labels: the fit, the temperature and the calibration error."""

import numpy as np
import pytest

from emotion_runtime.heads import activate
from emotion_train.probing.calibration import calibration_error, confidences_of, fit_temperature
from emotion_train.probing.classifiers import fit_logistic, fit_votes

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((400, 6)).astype(np.float32)
FEATURES /= np.linalg.norm(FEATURES, axis=1, keepdims=True)
LABELS = (FEATURES @ RNG.standard_normal((6, 3)) + 0.4 * RNG.standard_normal((400, 3))).argmax(1)


@pytest.mark.parametrize("c", [0.3, 3.0])
def test_with_all_votes_for_one_class_it_is_scikit_learns_classifier(c: float):
    weight, bias = fit_votes(FEATURES, np.eye(3)[LABELS], c=c)
    expected_weight, expected_bias = fit_logistic(FEATURES, LABELS, c=c, seed=0)
    np.testing.assert_allclose(weight, expected_weight, atol=0.02)
    np.testing.assert_allclose(bias - bias.mean(), expected_bias - expected_bias.mean(), atol=0.02)


def test_votes_weigh_as_much_as_copies_of_the_row():
    """Ten votes are ten rows with one label each."""
    counts = RNG.multinomial(10, [0.5, 0.3, 0.2], size=60)
    weight, bias = fit_votes(FEATURES[:60], counts / 10, c=2.0)
    copies = np.repeat(FEATURES[:60], 10, axis=0)
    labels = np.concatenate([np.repeat(np.arange(3), row) for row in counts])
    expected_weight, expected_bias = fit_logistic(copies, labels, c=0.2, seed=0)
    np.testing.assert_allclose(weight, expected_weight, atol=0.02)
    np.testing.assert_allclose(bias - bias.mean(), expected_bias - expected_bias.mean(), atol=0.02)


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_the_temperature_is_that_of_the_votes(true: float):
    logits = 3 * RNG.standard_normal((500, 4))
    votes = activate(logits, "softmax", true)
    assert fit_temperature(logits, votes) == pytest.approx(true, rel=0.01)


def test_a_prediction_is_as_right_as_the_share_of_votes_for_it():
    probability = np.array([[0.6, 0.4], [0.2, 0.8], [0.9, 0.1]])
    votes = np.array([[0.5, 0.5], [0.1, 0.9], [0.9, 0.1]])
    confidences = confidences_of(probability, np.array([0, 0, 0]), votes)
    assert confidences.correct.tolist() == [0.5, 0.9, 0.9]
    error = calibration_error(confidences, np.ones((1, 3)))[0]
    assert error == pytest.approx((0.1 + 0.1 + 0.0) / 3)  # three bins
