"""What only scenes tell: whether the prediction follows the person who is meant."""

import numpy as np
import pytest

from emotion_train.probing.bootstrap import bootstrap_intervals
from emotion_train.probing.scene_probe import SwapScorer, swap_metrics

TABLE = [  # prediction with a as subject, with b as subject, label of a, label of b
    (0, 1, 0, 1),  # follows the subject
    (0, 0, 0, 1),  # blind to it: one right, one the neighbour's
    (1, 0, 0, 1),  # takes each for the other
    (2, 3, 0, 1),  # wrong, and differently
]


def test_swap_metrics_of_a_table_made_by_hand():
    first, second, a, b = np.array(TABLE).T
    assert swap_metrics(first, second, a, b) == {
        "changed": 3 / 4,
        "own": 3 / 8,
        "other": 3 / 8,
        "both_right": 1 / 4,
    }


def test_pairs_are_drawn_as_pairs():
    """100 pairs, of which 30 follow the subject: a binomial's standard deviation is 4.6 %."""
    first, second, a, b = np.array([TABLE[0]] * 30 + [TABLE[1]] * 70).T
    low, high = bootstrap_intervals(SwapScorer(first, second, a, b), np.arange(100), seed=0)["both_right"]
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.3 * 0.7 / 100), rel=0.1)
    # Whoever follows is right twice and whoever does not, once: own = (1 + both_right) / 2.
    own = bootstrap_intervals(SwapScorer(first, second, a, b), np.arange(100), seed=0)["own"]
    assert own == pytest.approx(((1 + low) / 2, (1 + high) / 2))
