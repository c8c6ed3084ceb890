"""Intervals of means over classes of which some have few samples, where a bootstrap is too narrow.

Resampling four faces that are all wrong gives four wrong faces, however uncertain their recall is. Here every
class has its own posterior with Jeffreys' prior, whose intervals cover the truth about as often as they say
even for a handful of samples (Brown, Cai and DasGupta 2001), and the mean is that of independent draws.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

DRAWS, LEVEL = 100_000, 0.95


def mean_over_classes(counts: ArrayLike, values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the 95 % interval of the mean over classes of an outcome's expected value.

    Args:
        counts: (C, K) how often each outcome occurred in each class.
        values: (K,) the value of each outcome: (1, 0) of right and wrong predictions for balanced accuracy.
    """
    rng, tail = np.random.default_rng(0), (1 - LEVEL) / 2
    chances = [rng.dirichlet(np.asarray(row) + 0.5, DRAWS) for row in np.asarray(counts)]  # (DRAWS, K) each
    means = np.mean([each @ np.asarray(values) for each in chances], axis=0)
    low, high = np.quantile(means, (tail, 1 - tail))
    return float(low), float(high)
