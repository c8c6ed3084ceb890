"""Do 95 % intervals hold the truth 95 % of the time, also where samples hang together?"""

import numpy as np
import pytest
from scipy.stats import bootstrap

from emotion_train.probing.bootstrap import (
    FEW_GROUPS,
    Metrics,
    Weights,
    bootstrap_intervals,
    cluster_indices,
    point_metrics,
    resample_weights,
)
from emotion_train.probing.metrics import weighted_mean
from emotion_train.probing.scorers import single_label_scorer


class Mean:
    """Scorer of one metric, the mean."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __call__(self, weights: Weights) -> Metrics:
        return {"mean": weighted_mean(self.values, weights)}


def test_groups_are_numbered_as_they_come():
    assert cluster_indices(["b", "a", "b", "c", "a"]).tolist() == [0, 1, 0, 2, 1]


def test_a_group_is_drawn_whole_and_as_many_groups_as_there_are():
    clusters = np.array([0, 0, 1, 2, 2, 2])
    rows = np.concatenate(list(resample_weights(clusters, 200, 0)))
    assert rows.shape == (200, 6)
    for group in range(3):
        assert (rows[:, clusters == group] == rows[:, clusters == group][:, :1]).all()
    assert (rows[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert len(np.unique(rows, axis=0)) == 10  # 3 draws of 3 groups: all 10 ways


def test_drawing_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    clusters = np.arange(50)
    whole = np.concatenate(list(resample_weights(clusters, 30, 4)))
    monkeypatch.setattr("emotion_train.probing.bootstrap._BATCH_WEIGHTS", 50 * 7)
    parts = list(resample_weights(clusters, 30, 4))
    assert [len(part) for part in parts] == [7, 7, 7, 7, 2]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_intervals_are_scipys():
    values = np.random.default_rng(1).exponential(size=300)
    low, high = bootstrap_intervals(Mean(values), np.arange(300), seed=0, resamples=4000)["mean"]
    theirs = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    spread = theirs.high - theirs.low
    assert low == pytest.approx(theirs.low, abs=0.06 * spread)
    assert high == pytest.approx(theirs.high, abs=0.06 * spread)
    assert point_metrics(Mean(values), 300) == {"mean": pytest.approx(values.mean())}


def covered(groups: int, size: int, *, clustered: bool) -> float:
    """Fraction of 300 experiments whose interval holds the true mean, 0; half the variance is the group's."""
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(groups), size)
    hits = 0
    for _ in range(300):
        values = rng.normal(size=groups)[clusters] + rng.normal(size=groups * size)
        drawn = clusters if clustered else np.arange(groups * size)
        low, high = bootstrap_intervals(Mean(values), drawn, seed=int(rng.integers(1 << 30)), resamples=400)[
            "mean"
        ]
        hits += low <= 0 <= high
    return hits / 300


@pytest.mark.slow
def test_coverage():
    """A binomial of 300 at 95 % has a standard deviation of 1.3 %; the percentile method costs a little."""
    assert 0.90 <= covered(60, 1, clustered=True) <= 0.985
    assert 0.90 <= covered(40, 10, clustered=True) <= 0.985
    # Drawn one by one, samples that hang together promise far more than they hold.
    assert covered(40, 10, clustered=False) < 0.75


@pytest.mark.slow
def test_coverage_of_balanced_accuracy_needs_twenty_examples_of_a_class():
    """What the docstring says: below that, the class is named in reports."""
    held = {count: recall_covered(count) for count in (5, FEW_GROUPS)}
    assert held[5] < 0.8
    assert held[FEW_GROUPS] > 0.88


def recall_covered(count: int) -> float:
    """Fraction of 200 experiments whose interval holds the true mean recall, with `count` of one class."""
    rng = np.random.default_rng(6)
    labels = np.repeat([0, 1, 2], [200, 200, count])
    hits = 0
    for _ in range(200):
        scores = np.eye(3)[np.where(rng.random(len(labels)) < 0.8, labels, (labels + 1) % 3)]
        scorer = single_label_scorer("abc", scores, labels, {})
        clusters, seed = np.arange(len(labels)), int(rng.integers(1 << 30))
        low, high = bootstrap_intervals(scorer, clusters, seed=seed, resamples=300)["balanced_accuracy"]
        hits += low <= 0.8 <= high
    return hits / 200


def test_an_interval_uses_only_resamples_in_which_the_metric_is_defined():
    def score(weights: Weights) -> Metrics:
        first = weights[:, 0]
        return {
            "never": np.full(len(weights), np.nan),
            "mostly": np.where(first > 0, first, np.nan),  # 64 % of the resamples have the first of 20
            "rarely": np.where(first > 1, first, np.nan),  # 26 %
        }

    found = bootstrap_intervals(score, np.arange(20), seed=0)
    assert np.isnan([found["never"], found["rarely"]]).all()
    assert found["mostly"][0] == 1
    assert found["mostly"][1] >= 3
