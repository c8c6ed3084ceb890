"""Assignments cost as little as SciPy's."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from emotion_runtime.assignment import assign


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (3, 3), (4, 9), (9, 4), (32, 30)])
@pytest.mark.parametrize("kind", ["any", "equal ones", "many out of reach"])
def test_no_assignment_costs_less(shape: tuple[int, int], kind: str):
    rng = np.random.default_rng(sum(shape))
    for _ in range(20):
        costs = rng.uniform(0, 10, shape)
        if kind == "equal ones":
            costs = np.round(costs / 4)
        elif kind == "many out of reach":
            costs[rng.random(shape) < 0.8] = 1e6
        pairs = assign(costs)
        assert len(pairs) == len(set(pairs.values())) == min(shape)
        found = sum(costs[row, column] for row, column in pairs.items())
        assert found == pytest.approx(costs[linear_sum_assignment(costs)].sum())


def test_the_cheapest_columns_are_taken_if_no_two_rows_want_the_same():
    assert assign(np.array([[5.0, 1.0, 2.0], [0.0, 3.0, 4.0]])) == {0: 1, 1: 0}


def test_a_row_that_has_no_other_choice_gets_its_column():
    assert assign(np.array([[1.0, 2.0], [1.5, 9.0]])) == {0: 1, 1: 0}
