"""Pair rows with columns so that the sum of their costs is least.

SciPy has the same as `linear_sum_assignment`, but importing it takes a third of a second, more than anything
else between the start of the program and its first event.
"""

import numpy as np
from numpy.typing import NDArray


def assign(costs: NDArray[np.float64]) -> dict[int, int]:
    """Return the column of each row, for min(K, N) rows, so that the sum of their costs is least.

    Args:
        costs: (K, N) finite costs; K and N are at least 1.
    """
    if len(costs) > costs.shape[1]:
        return {row: column for column, row in assign(costs.T).items()}
    cheapest = costs.argmin(axis=1)
    if len(set(cheapest.tolist())) == len(cheapest):  # no assignment can cost less
        return dict(enumerate(cheapest.tolist()))
    return _augmented(costs)


def _augmented(costs: NDArray[np.float64]) -> dict[int, int]:
    """Solve the general case (K <= N) row by row, each with a shortest augmenting path.

    Source: Jonker and Volgenant, "A Shortest Augmenting Path Algorithm for Dense and Sparse Linear Assignment
    Problems", 1987.
    """
    rows, columns = costs.shape
    of_rows, of_columns = np.zeros(rows), np.zeros(columns)  # dual variables
    row_of = np.full(columns, -1)
    for new in range(rows):
        shortest = np.full(columns, np.inf)
        before = np.full(columns, -1)  # the column before each one on the path to it; -1: the path's start
        done = np.zeros(columns, bool)
        row, column = new, -1
        while row >= 0:
            length = 0.0 if column < 0 else shortest[column]
            reached = length + costs[row] - of_rows[row] - of_columns
            better = ~done & (reached < shortest)
            shortest[better], before[better] = reached[better], column
            column = int(np.where(done, np.inf, shortest).argmin())
            done[column] = True
            row = int(row_of[column])
        least = shortest[column]
        settled = done & (row_of >= 0)
        of_rows[new] += least
        of_rows[row_of[settled]] += least - shortest[settled]
        of_columns[done] -= least - shortest[done]
        while column >= 0:
            previous = int(before[column])
            row_of[column] = new if previous < 0 else row_of[previous]
            column = previous
    return {int(row): column for column, row in enumerate(row_of) if row >= 0}
