"""Time several things side by side, so that a disturbance of the machine affects all of them."""

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

_LEAST_SECONDS = 0.02  # of one measurement: shorter ones measure the clock and the scheduler
_BLOCKS = 5  # blocks of calls, of which the median counts
_BLOCK_SECONDS = 0.03
_WARM_UP = 3  # a CUDA graph is captured in the second call


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    seed: int = 0,
    clock: Callable[[], float] | None = None,
) -> dict[str, list[float]]:
    """Return the seconds of one call by contender, one value per round.

    Each contender is called once to warm up, and then once per round, in another order each time, repeated
    until 20 ms have passed. Values of the same round belong together: compare them with `ratios`. With
    `time.process_time` as the clock, the seconds of all threads together are measured, on which other
    programs have little influence.
    """
    clock = clock or time.perf_counter
    repeats = {name: _repeats(call) for name, call in contenders.items()}
    order, rng = list(contenders), random.Random(seed)  # noqa: S311 - the order of a benchmark
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            seconds[name].append(_block(contenders[name], repeats[name], clock))
    return seconds


def median_seconds(call: Callable[[], object], wait: Callable[[], object] = lambda: None) -> float:
    """Return the seconds of one call: the median of several blocks of calls, each ended by a wait.

    Args:
        call: What is measured.
        wait: Returns when all work that `call` has started is done.
    """
    for _ in range(_WARM_UP):
        call()

    def clock() -> float:
        wait()
        return time.perf_counter()

    count = max(1, round(_BLOCK_SECONDS / max(_block(call, 1, clock), 1e-9)))
    return statistics.median(_block(call, count, clock) for _ in range(_BLOCKS))


def _block(call: Callable[[], object], count: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(count):
        call()
    return (clock() - start) / count


def ratios(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    """Return how many times faster `fast` was than `slow`, round by round."""
    return [a / b for a, b in zip(slow, fast, strict=True)]


def spread(values: Sequence[float], digits: int = 4) -> dict[str, float]:
    """Return median, minimum and maximum."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def _repeats(call: Callable[[], object]) -> int:
    call()
    return max(1, math.ceil(_LEAST_SECONDS / max(_block(call, 1, time.perf_counter), 1e-9)))
