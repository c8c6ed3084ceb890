"""Smoothing against its closed form, hysteresis against its rule."""

import math

import numpy as np
import pytest

from emotion_runtime.errors import EmotionError
from emotion_runtime.smoothing import Smoother

A = np.array([0.7, 0.2, 0.1])
B = np.array([0.1, 0.3, 0.6])


def test_the_first_answer_is_shown_as_it_is():
    np.testing.assert_array_equal(Smoother().update(A, 12.0), A)


@pytest.mark.parametrize("times", [[1.0], [0.1, 0.2, 1.0], [0.9, 0.91, 0.92, 1.0]])
def test_a_step_is_followed_by_time_not_by_number_of_updates(times: list[float]):
    smoother = Smoother(time_constant=0.8)
    smoother.update(A, 0.0)
    for t in times:
        shown = smoother.update(B, t)
    np.testing.assert_allclose(shown, B + (A - B) * math.exp(-1.0 / 0.8), atol=1e-12)


def test_uneven_inputs_follow_the_differential_equation():
    # ds/dt = (p - s) / tau with p held constant up to each update, integrated in tiny steps.
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.02, 0.5, 20))
    inputs = rng.dirichlet(np.ones(3), 20)
    smoother, tau = Smoother(time_constant=0.6), 0.6
    shown = smoother.update(inputs[0], times[0])
    state = inputs[0].copy()
    for previous, t, p in zip(times, times[1:], inputs[1:], strict=False):
        shown = smoother.update(p, t)
        steps = 2_000
        for _ in range(steps):
            state += (p - state) * ((t - previous) / steps) / tau
        np.testing.assert_allclose(shown, state, atol=5e-4)
        assert shown.sum() == pytest.approx(1, abs=1e-12)


def test_zero_turns_it_off():
    smoother = Smoother(time_constant=0)
    smoother.update(A, 0.0)
    np.testing.assert_array_equal(smoother.update(B, 0.001), B)
    np.testing.assert_array_equal(smoother.update(A, 0.001), A)


def test_a_step_back_in_time_starts_over():
    smoother = Smoother()
    smoother.update(A, 50.0)
    np.testing.assert_array_equal(smoother.update(B, 0.0), B)
    assert smoother.top == 2


def test_a_step_back_forgets_the_held_label_too():
    smoother = Smoother(margin=0.08)
    smoother.update(np.array([0.45, 0.40, 0.15]), 50.0)
    smoother.update(np.array([0.40, 0.45, 0.15]), 0.0)  # too close to replace a label that is held
    assert smoother.top == 1


def tops(margin: float, *rows: list[float]) -> list[int | None]:
    smoother = Smoother(time_constant=0, margin=margin)
    shown = []
    for number, row in enumerate(rows):
        smoother.update(np.array(row), float(number))
        shown.append(smoother.top)
    return shown


def test_a_close_rival_does_not_replace_the_top():
    close = [[0.45, 0.40, 0.15], [0.40, 0.45, 0.15]]
    assert tops(0.08, *close, *close) == [0, 0, 0, 0]
    assert tops(0.0, *close, *close) == [0, 1, 0, 1]  # what would blink without it


def test_a_clear_rival_replaces_it_and_is_then_held():
    assert tops(0.08, [0.5, 0.4, 0.1], [0.4, 0.5, 0.1], [0.47, 0.46, 0.07]) == [0, 1, 1]


def test_a_top_that_fell_under_chance_goes_without_a_margin():
    # Chance is 1/3; nobody leads by 0.08.
    assert tops(0.08, [0.5, 0.3, 0.2], [0.32, 0.36, 0.32]) == [0, 1]


def test_a_label_is_given_from_a_threshold_on_and_taken_back_a_margin_below():
    smoother = Smoother(time_constant=0, margin=0.08, abstain=0.4)
    shown = []
    for t, probability in enumerate((0.39, 0.4, 0.33, 0.321, 0.319, 0.39, 0.41)):
        smoother.update(np.array([probability, 0.2, 0.8 - probability - 0.2]), float(t))
        shown.append(smoother.label)
    assert shown[:5] == [None, 0, 0, 0, None]
    assert shown[5:] == [None, 0]


def test_no_top_before_the_first_answer():
    assert Smoother().top is None


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf")])
def test_bad_values_are_refused(bad: float):
    with pytest.raises(EmotionError, match="smoothing"):
        Smoother(time_constant=bad)
    with pytest.raises(EmotionError, match="hysteresis"):
        Smoother(margin=bad)
