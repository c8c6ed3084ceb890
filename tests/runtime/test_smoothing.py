"""The moving average against its closed form, and label hysteresis against its rule."""

import math

import numpy as np
import pytest

from emotion_runtime.errors import EmotionError
from emotion_runtime.smoothing import ExponentialAverage, LabelHysteresis

A = np.array([0.7, 0.2, 0.1])
B = np.array([0.1, 0.3, 0.6])


# --- the moving average ---


def test_first_values_are_returned_unchanged():
    np.testing.assert_array_equal(ExponentialAverage().update(A, 12.0), A)


@pytest.mark.parametrize("times", [[1.0], [0.1, 0.2, 1.0], [0.9, 0.91, 0.92, 1.0]])
def test_response_to_a_step_depends_on_time_and_not_on_the_number_of_updates(times: list[float]):
    average = ExponentialAverage(0.8)
    average.update(A, 0.0)
    for t in times:
        shown = average.update(B, t)
    np.testing.assert_allclose(shown, B + (A - B) * math.exp(-1.0 / 0.8), atol=1e-12)


def test_uneven_updates_follow_the_differential_equation():
    # ds/dt = (p - s) / tau with p held constant up to each update, integrated in tiny steps.
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.02, 0.5, 20))
    inputs = rng.dirichlet(np.ones(3), 20)
    average, tau = ExponentialAverage(0.6), 0.6
    shown = average.update(inputs[0], times[0])
    state = inputs[0].copy()
    for previous, t, p in zip(times, times[1:], inputs[1:], strict=False):
        shown = average.update(p, t)
        steps = 2_000
        for _ in range(steps):
            state += (p - state) * ((t - previous) / steps) / tau
        np.testing.assert_allclose(shown, state, atol=5e-4)
        assert shown.sum() == pytest.approx(1, abs=1e-12)


def test_time_constant_zero_turns_smoothing_off():
    average = ExponentialAverage(0)
    average.update(A, 0.0)
    np.testing.assert_array_equal(average.update(B, 0.001), B)
    np.testing.assert_array_equal(average.update(A, 0.001), A)


def test_a_step_back_in_time_restarts_the_average():
    average = ExponentialAverage()
    average.update(A, 50.0)
    np.testing.assert_array_equal(average.update(B, 0.0), B)


def test_values_need_not_be_probabilities():
    average = ExponentialAverage(0.8)
    average.update(np.array([5.0, -2.0]), 0.0)
    expected = np.array([1.0, 3.0]) + (np.array([5.0, -2.0]) - np.array([1.0, 3.0])) * math.exp(-0.5)
    np.testing.assert_allclose(average.update(np.array([1.0, 3.0]), 0.4), expected, atol=1e-12)


# --- label hysteresis ---


def labels(margin: float, *rows: list[float], abstain: float = 0.0) -> list[int | None]:
    hysteresis = LabelHysteresis(margin, abstain=abstain)
    shown = [hysteresis.update(np.array(row), float(t)) for t, row in enumerate(rows)]
    assert hysteresis.label == shown[-1]
    return shown


def test_a_close_second_does_not_replace_the_held_label():
    close = [[0.45, 0.40, 0.15], [0.40, 0.45, 0.15]]
    assert labels(0.08, *close, *close) == [0, 0, 0, 0]
    assert labels(0.0, *close, *close) == [0, 1, 0, 1]  # the flicker without a margin


def test_a_clear_leader_replaces_the_held_label_and_is_then_held():
    assert labels(0.08, [0.5, 0.4, 0.1], [0.4, 0.5, 0.1], [0.47, 0.46, 0.07]) == [0, 1, 1]


def test_a_held_label_below_chance_is_replaced_without_a_margin():
    # Chance is 1/3, and no label leads by 0.08.
    assert labels(0.08, [0.5, 0.3, 0.2], [0.32, 0.36, 0.32]) == [0, 1]


def test_a_step_back_in_time_drops_the_held_label():
    hysteresis = LabelHysteresis(0.08)
    hysteresis.update(np.array([0.45, 0.40, 0.15]), 50.0)
    assert hysteresis.update(np.array([0.40, 0.45, 0.15]), 0.0) == 1  # too close to replace a held one


def test_a_label_is_never_shown_below_the_threshold():
    probabilities = (0.39, 0.4, 0.43, 0.41, 0.4, 0.399, 0.41, 0.43)
    rows = [[probability, 0.2, 0.8 - probability - 0.2] for probability in probabilities]
    # It appears a quarter of the margin above, so that it does not flicker around the threshold.
    assert labels(0.08, *rows, abstain=0.4) == [None, None, 0, 0, 0, None, None, 0]


@pytest.mark.parametrize("classes", [2, 3, 7, 26])
def test_a_shown_label_has_at_least_the_threshold_whatever_comes(classes: int):
    rng = np.random.default_rng(classes)
    hysteresis = LabelHysteresis(0.08, abstain=1.5 / classes)
    shown, probabilities = 0, np.full(classes, 1 / classes)
    for t in range(3000):
        probabilities = np.maximum(probabilities + rng.normal(0, 0.1 / classes, classes), 0.01 / classes)
        probabilities /= probabilities.sum()
        label = hysteresis.update(probabilities, float(t))
        if label is not None:
            shown += 1
            assert probabilities[label] >= 1.5 / classes
            assert probabilities.max() - probabilities[label] <= 0.08
    assert shown > 100


def test_a_held_label_below_the_threshold_gives_way_without_a_margin():
    assert labels(0.08, [0.5, 0.3, 0.2], [0.39, 0.43, 0.18], abstain=0.4) == [0, 1]


def test_the_margin_shrinks_with_the_number_of_labels():
    def row(first: float, second: float) -> list[float]:
        return [first, second, *[(1 - first - second) / 24] * 24]

    # 0.08 is more than any of 26 categories ever leads by.
    assert labels(0.08, row(0.08, 0.06), row(0.07, 0.078), row(0.065, 0.085)) == [0, 0, 1]


def test_there_is_no_label_before_the_first_update():
    assert LabelHysteresis().held is None
    assert LabelHysteresis().label is None


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf")])
def test_values_out_of_range_are_rejected(bad: float):
    with pytest.raises(EmotionError, match="smoothing"):
        ExponentialAverage(bad)
    with pytest.raises(EmotionError, match="hysteresis"):
        LabelHysteresis(bad)
