"""Run a protocol from end to end: fit every task with some seeds, and measure it on every split."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from emotion_train.datasets.base import Task
from emotion_train.probing.bootstrap import RESAMPLES
from emotion_train.probing.features import FeatureSet
from emotion_train.probing.fit import TaskHead, fit_task
from emotion_train.probing.measure import HeadResult, MeasureOptions, measure, spread
from emotion_train.probing.protocol import Protocol

_log = logging.getLogger(__name__)

SetLoader = Callable[[str, int], FeatureSet]  # name of a split or set, and seed -> its features


@dataclass(frozen=True, slots=True)
class ProtocolResult:
    """The results of a protocol.

    Attributes:
        heads: Fitted with the first seed.
        measured: Results of these heads.
        spread: Mean and standard deviation over all seeds, see `measure.spread`; empty with one seed.
        skipped: Number of rows left out, by split and reason.
    """

    heads: tuple[TaskHead, ...]
    measured: tuple[HeadResult, ...]
    spread: Mapping[str, Mapping[str, Mapping[str, float]]]
    skipped: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How to fit.

    Attributes:
        seeds: Of the classifiers; the heads of the first are kept.
        grid: Values of C; the one with the best metric on the tuning split is chosen.
        resamples: Number of bootstrap resamples.
    """

    seeds: Sequence[int]
    grid: Sequence[float]
    resamples: int = RESAMPLES


def run_protocol(
    tasks: Sequence[Task], protocol: Protocol, load_set: SetLoader, fitting: FitOptions
) -> ProtocolResult:
    """Fit every task with every seed, and measure the heads.

    Args:
        tasks: What to predict.
        protocol: Which split is for what.
        load_set: Returns the features of a split for a seed.
        fitting: How to fit.

    Raises:
        EmotionError: A split is empty or invalid, or a class has no examples.
    """
    runs: list[tuple[tuple[TaskHead, ...], tuple[HeadResult, ...]]] = []
    skipped: dict[str, Mapping[str, int]] = {}
    for index, seed in enumerate(fitting.seeds):
        sets = {name: load_set(name, seed) for name in protocol.splits}
        skipped = skipped or {name: part.skipped for name, part in sets.items()}
        heads = tuple(
            fit_task(
                task,
                sets[protocol.fit],
                sets[protocol.tune],
                grid=fitting.grid,
                seed=seed,
            )
            for task in tasks
        )
        # Only the results of the first seed are reported with intervals; the spread over seeds needs none.
        options = MeasureOptions(fitting.seeds[0], 0 if index else fitting.resamples, protocol.smoothed)
        measured = measure_heads(heads, [sets[name] for name in protocol.measured], options)
        runs.append((heads, measured))
    heads, measured = runs[0]
    over = [{result.name: result.metrics for result in results} for _, results in runs]
    return ProtocolResult(heads, measured, spread(over) if len(over) > 1 else {}, skipped)


def measure_heads(
    heads: Sequence[TaskHead], sets: Sequence[FeatureSet], options: MeasureOptions, *, prefix: str = ""
) -> tuple[HeadResult, ...]:
    """Measure every head on every set.

    Args:
        heads: To be measured.
        sets: To measure on.
        options: How to measure.
        prefix: Put before the names of the results.
    """
    results = tuple(
        result
        for part in sets
        for head in heads
        for result in measure(head, part, prefix + _name(head.task, part), options)
    )
    for name in (result.name for result in results if result.fitted):
        _log.info("%s: the head was fitted on these rows: its metrics say nothing about new data", name)
    return results


def _name(task: Task, part: FeatureSet) -> str:
    """Return the name of the set, followed by the task's if the set has several."""
    return part.name if len(part.targets) == 1 else f"{part.name}_{task.name}"
