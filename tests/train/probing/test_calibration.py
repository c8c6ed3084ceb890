"""Calibration error by hand, temperatures that are known, and the halves of a set that tunes itself."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from emotion_runtime.heads import activate
from emotion_train.probing.calibration import (
    abstain_threshold,
    calibration_error,
    confidences_of,
    fit_temperature,
    reliability,
)


def random_logits(count: int, seed: int = 0) -> NDArray[np.float64]:
    return 2 * np.random.default_rng(seed).standard_normal((count, 7))


def error_of(probability: NDArray[np.float64], targets: NDArray[np.generic]) -> float:
    return float(calibration_error(confidences_of(probability, targets), np.ones((1, len(probability))))[0])


def test_calibration_error_by_hand():
    """15 bins: .95 and .97 share the last one, .60 and .55 lie in two of their own."""
    confidence, right = [0.95, 0.97, 0.6, 0.55], [True, False, True, True]
    probability = np.zeros((4, 7))
    for row, value in enumerate(confidence):
        probability[row] = (1 - value) / 6
        probability[row, row] = value
    labels = np.array([row if hit else 6 for row, hit in enumerate(right)])
    # Last bin: two of four, accuracy 0.5, confidence 0.96; the others: one of four each, accuracy 1.
    expected = 0.5 * abs(0.5 - 0.96) + 0.25 * (1 - 0.6) + 0.25 * (1 - 0.55)
    assert error_of(probability, labels) == pytest.approx(expected)
    # The first sample three times, the second not at all: three right in the last bin, one of five each else.
    drawn = calibration_error(confidences_of(probability, labels), np.array([[3.0, 0, 1, 1]]))
    assert drawn[0] == pytest.approx(0.6 * 0.05 + 0.2 * 0.4 + 0.2 * 0.45)


def test_each_label_of_several_is_a_claim():
    """Bins of 1/15: 0.1 in the second, 0.9 and 0.9 in the fourteenth, 0.3 in the fifth."""
    probability, targets = np.array([[0.1, 0.9], [0.9, 0.3]]), np.array([[0, 1], [0, 1]], np.float32)
    expected = 0.25 * 0.1 + 0.5 * abs(0.5 - 0.9) + 0.25 * 0.7
    assert error_of(probability, targets) == pytest.approx(expected)


def test_certainty_is_calibrated_when_it_is_right():
    assert error_of(np.eye(7), np.arange(7)) == 0
    assert error_of(np.eye(7), (np.arange(7) + 1) % 7) == 1


def slow_bins(
    confidence: NDArray[np.float64], right: NDArray[np.bool_]
) -> Iterator[list[tuple[float, bool]]]:
    for low in range(15):
        yield [
            (p, r)
            for p, r in zip(confidence.tolist(), right.tolist(), strict=True)
            if low / 15 <= p < (low + 1) / 15 or (low == 14 and p == 1)
        ]


def test_the_curve_of_a_plot_has_the_bins_of_the_error():
    probability = activate(random_logits(200), "softmax")
    labels = np.random.default_rng(3).integers(0, 7, 200)
    confidences = confidences_of(probability, labels)
    count, confidence, truth = reliability(confidences)
    bins = list(slow_bins(probability.max(axis=1), probability.argmax(axis=1) == labels))
    assert count.tolist() == [len(held) for held in bins]
    gap = 0.0
    for number, held in enumerate(bins):
        if held:
            assert confidence[number] == pytest.approx(np.mean([p for p, _ in held]))
            assert truth[number] == pytest.approx(np.mean([r for _, r in held]))
            gap += len(held) / 200 * abs(confidence[number] - truth[number])
    assert error_of(probability, labels) == pytest.approx(gap)


def test_probabilities_are_a_softmax():
    logits = random_logits(5)
    expected = torch.softmax(torch.from_numpy(logits) / 2.5, dim=1).numpy()
    np.testing.assert_allclose(activate(logits, "softmax", 2.5), expected)
    assert np.isfinite(activate(np.array([[1e4, 0.0, -1e4]]), "softmax")).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature: float):
    logits = random_logits(20000)
    noise = np.random.default_rng(2).gumbel(size=logits.shape)
    labels = (logits / temperature + noise).argmax(axis=1)  # draws from the softmax
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_temperature_of_independent_labels_is_found(temperature: float):
    logits = random_logits(5000)
    noise = np.random.default_rng(2).logistic(size=logits.shape)
    targets = (logits / temperature > noise).astype(np.float32)  # draws from the sigmoid
    assert fit_temperature(logits, targets, "sigmoid") == pytest.approx(temperature, rel=0.05)


def test_a_tenth_of_the_samples_is_less_sure_than_the_threshold():
    """Eleven samples, ten steps: the tenth lies on the second least sure."""
    confidence = np.array([0.9, 0.42, 0.7, 0.61, 0.55, 0.99, 0.8, 0.47, 0.75, 0.66, 0.95])
    probability = np.stack([confidence, 0.6 * (1 - confidence), 0.4 * (1 - confidence)], axis=1)
    for columns in ([0, 1, 2], [2, 0, 1]):  # whichever label it is
        assert abstain_threshold(probability[:, columns]) == pytest.approx(0.47)
    many = activate(random_logits(5000), "softmax")
    threshold = abstain_threshold(many)
    assert (many.max(axis=1) < threshold).mean() == pytest.approx(0.1, abs=2e-4)
    assert 1 / 7 < threshold < 1
