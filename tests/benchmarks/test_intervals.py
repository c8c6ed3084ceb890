"""Intervals of balanced accuracy cover the truth as often as they say, also if a class has few samples."""

import numpy as np
import pytest
from scipy.stats import beta

from emotion_bench.intervals import mean_over_classes

COUNTS = np.array([113, 4, 23, 420, 157, 171, 473])  # clear test faces of FER2013, by class
RECALLS = np.full(7, 0.9)


@pytest.mark.parametrize(("right", "wrong"), [(0, 4), (17, 6), (395, 25)])
def test_the_interval_of_one_class_is_that_of_jeffreys(right: int, wrong: int):
    expected = beta.ppf((0.025, 0.975), right + 0.5, wrong + 0.5)
    assert mean_over_classes([(right, wrong)], (1, 0)) == pytest.approx(expected, abs=0.005)


def bootstrap(right: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Resample the faces of every class, which is what was done before."""
    means = (rng.binomial(COUNTS, right / COUNTS, (500, len(COUNTS))) / COUNTS).mean(axis=1)
    return tuple(np.quantile(means, (0.025, 0.975)))


def test_balanced_accuracy_is_covered_where_a_bootstrap_misses_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("emotion_bench.intervals.DRAWS", 1000)
    rng, trials = np.random.default_rng(0), 400
    covered = {"posterior": 0, "bootstrap": 0}
    for _ in range(trials):
        right = rng.binomial(COUNTS, RECALLS)
        ends = {
            "posterior": mean_over_classes(np.stack([right, COUNTS - right], axis=1), (1, 0)),
            "bootstrap": bootstrap(right, rng),
        }
        for name, (low, high) in ends.items():
            covered[name] += low <= RECALLS.mean() <= high
    assert 0.92 < covered["posterior"] / trials <= 0.99
    assert covered["bootstrap"] / trials < 0.85


def test_paired_differences_are_covered(monkeypatch: pytest.MonkeyPatch):
    """Two predictions for the same faces: only the first is right, only the second, or both alike."""
    monkeypatch.setattr("emotion_bench.intervals.DRAWS", 1000)
    chances = np.tile((0.15, 0.08, 0.77), (len(COUNTS), 1))
    rng, trials, covered = np.random.default_rng(0), 400, 0
    for _ in range(trials):
        counts = [rng.multinomial(n, each) for n, each in zip(COUNTS, chances, strict=True)]
        low, high = mean_over_classes(counts, (1, -1, 0))
        covered += low <= 0.07 <= high
    assert 0.92 < covered / trials <= 0.99
