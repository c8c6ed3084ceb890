"""Bootstrap intervals: what the metrics would be, had others been measured.

Samples that hang together (of one video, one film, one picture) are drawn together, or a video with many
samples would count as many independent ones and every interval would be too narrow.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
Metrics = dict[str, Weights]  # by name: one metric a row of weights, (B,)
Scorer = Callable[[Weights], Metrics]

RESAMPLES = 1000
LEVEL = 0.95
FEW_GROUPS = 20  # under about so many, percentile intervals are known to be too narrow

_CELLS = 2_000_000  # weights at a time: 16 MB


def cluster_indices(groups: Sequence[Any] | NDArray[np.generic]) -> NDArray[np.int64]:
    """(N,) numbers 0..G-1 of the groups in order of their first sample."""
    number: dict[Any, int] = {}
    return np.array([number.setdefault(group, len(number)) for group in groups], np.int64)


def resample_weights(clusters: NDArray[np.int64], count: int, seed: int) -> Iterator[Weights]:
    """`count` rows of (B, N) in some batches: how often each sample is drawn.

    clusters: (N,), numbers 0..G-1; G of them are drawn with replacement, and with one all of its samples.
    """
    rng = np.random.default_rng(seed)
    number = int(clusters.max()) + 1
    batch = max(1, _CELLS // len(clusters))
    for start in range(0, count, batch):
        rows = min(batch, count - start)
        drawn = rng.multinomial(number, np.full(number, 1 / number), size=rows).astype(np.float64)
        yield drawn[:, clusters]


def point_metrics(scorer: Scorer, samples: int) -> dict[str, float]:
    """The metrics of the data as it is."""
    return {name: float(rows[0]) for name, rows in scorer(np.ones((1, samples))).items()}


def bootstrap_intervals(
    scorer: Scorer, clusters: NDArray[np.int64], *, seed: int, resamples: int = RESAMPLES
) -> dict[str, tuple[float, float]]:
    """The middle 95 % of every metric over resamples (percentile bootstrap, Efron 1979).

    A resample for which a metric is not defined does not count for it, and a metric that is defined for less
    than half of them has (NaN, NaN): what is left would be no sample of anything.
    """
    rows: dict[str, list[Weights]] = {}
    for weights in resample_weights(clusters, resamples, seed):
        for name, values in scorer(weights).items():
            rows.setdefault(name, []).append(values)
    tail = 50 * (1 - LEVEL)
    return {name: _middle(np.concatenate(values), tail) for name, values in rows.items()}


def _middle(values: Weights, tail: float) -> tuple[float, float]:
    defined = values[~np.isnan(values)]
    if not len(defined) or 2 * len(defined) < len(values):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)
