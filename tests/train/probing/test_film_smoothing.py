"""Savitzky-Golay over films against least-squares cubics written out."""

import numpy as np
import pytest

from emotion_train.probing.smoothing import smooth_all, smooth_films


def cubic(seconds: np.ndarray, values: np.ndarray, at: float) -> float:
    return float(np.polynomial.Polynomial.fit(seconds, values, 3)(at))


def test_inside_a_film_the_cubic_of_a_hundred_seconds_is_read_in_their_middle():
    values = np.random.default_rng(0).normal(size=(260, 2))
    smoothed, short = smooth_films(values, ["film"] * 260)
    assert short == ()
    for second in (50, 51, 120, 208):
        around = np.arange(second - 49, second + 51)
        assert len(around) == 100
        for v in (0, 1):
            expected = cubic(around, values[around, v], second + 0.5)
            assert smoothed[second, v] == pytest.approx(expected, abs=1e-9)


def test_at_the_ends_of_a_film_one_cubic_serves_for_half_a_window():
    values = np.random.default_rng(1).normal(size=(150, 1))
    smoothed, _ = smooth_films(values, ["film"] * 150)
    first, last = np.arange(100), np.arange(50, 150)
    for second in (0, 20, 49):
        assert smoothed[second, 0] == pytest.approx(cubic(first, values[first, 0], second), abs=1e-9)
    for second in (101, 130, 149):
        assert smoothed[second, 0] == pytest.approx(cubic(last, values[last, 0], second), abs=1e-9)


def test_as_one_series_films_run_into_each_other():
    rng = np.random.default_rng(3)
    values = rng.normal(size=(170, 2))
    together, short = smooth_all(values)
    assert short == ()
    np.testing.assert_array_equal(together, smooth_films(values, ["one film"] * 170)[0])
    around = np.arange(100 - 49, 100 + 51)  # over the border of films of 120 and 50 seconds
    assert together[100, 0] == pytest.approx(cubic(around, values[around, 0], 100.5), abs=1e-9)
    assert smooth_all(values[:99])[1] == ("the series of all films",)


def test_films_do_not_touch_each_other_and_short_ones_stay():
    rng = np.random.default_rng(2)
    long, short = rng.normal(size=(120, 2)), rng.normal(size=(99, 2))
    alone, _ = smooth_films(long, ["a"] * 120)
    together, named = smooth_films(np.concatenate([short, long]), ["b"] * 99 + ["a"] * 120)
    assert named == ("b",)
    np.testing.assert_array_equal(together[:99], short)
    np.testing.assert_array_equal(together[99:], alone)
    assert np.abs(alone - long).max() > 0.5
