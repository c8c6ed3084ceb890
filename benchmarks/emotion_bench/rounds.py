"""Time several things side by side, so that a disturbance of the machine affects all of them."""

import math
import random
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)
_LEAST_SECONDS = 0.02  # of one measurement: shorter ones measure the clock and the scheduler
_BLOCKS = 5  # blocks of calls, of which the median counts


def interleave(
    contenders: Mapping[Name, Callable[[], object]],
    *,
    rounds: int,
    seed: int = 0,
    clock: Callable[[], float] | None = None,
) -> dict[Name, list[float]]:
    """Return the seconds of one call by contender, one value per round.

    Each contender is called twice to warm up (a CUDA graph is captured in the second call), and then once per
    round, in another order each time, repeated until 20 ms have passed. Values of the same round belong
    together: compare them with `ratios`. With `time.process_time` as the clock, the seconds of all threads
    together are measured, on which other programs have little influence.
    """
    clock = clock or time.perf_counter
    repeats = {}
    for name, call in contenders.items():
        _block(call, 2, clock)
        repeats[name] = max(1, math.ceil(_LEAST_SECONDS / max(_block(call, 1, clock), 1e-9)))
    order, rng = list(contenders), random.Random(seed)  # noqa: S311 - the order of a benchmark
    seconds: dict[Name, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            seconds[name].append(_block(contenders[name], repeats[name], clock))
    return seconds


def median_seconds(call: Callable[[], object], wait: Callable[[], object] = lambda: None) -> float:
    """Return the seconds of one call: the median of several blocks of calls.

    Args:
        call: What is measured.
        wait: Returns when all work that `call` has started is done.
    """

    def clock() -> float:
        wait()
        return time.perf_counter()

    return statistics.median(interleave({"": call}, rounds=_BLOCKS, clock=clock)[""])


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
