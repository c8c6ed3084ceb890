"""The protocol from end to end: fit every task, over some seeds, and measure it on every split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from emotion_train.datasets.base import Task
from emotion_train.probing.bootstrap import RESAMPLES
from emotion_train.probing.features import FeatureSet
from emotion_train.probing.fit import TaskHead, fit_task
from emotion_train.probing.measure import HeadResult, MeasureOptions, measure, spread
from emotion_train.probing.protocol import Protocol

SetLoader = Callable[[str, int], FeatureSet]  # name of a split or set, and seed -> its features


@dataclass(frozen=True, slots=True)
class ProtocolResult:
    """heads, measured: of the first seed. spread: of all, empty with one. skipped: by split and reason."""

    heads: tuple[TaskHead, ...]
    measured: tuple[HeadResult, ...]
    spread: Mapping[str, Mapping[str, Mapping[str, float]]]
    skipped: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class FitOptions:
    """seeds: of the classifiers, the first one's heads are kept. grid: values of C, the best on val wins."""

    seeds: Sequence[int]
    grid: Sequence[float]
    resamples: int = RESAMPLES


def run_protocol(
    tasks: Sequence[Task], protocol: Protocol, load_set: SetLoader, fitting: FitOptions
) -> ProtocolResult:
    """Fit and measure.

    Raises:
        EmotionError: a split is empty or broken, or its classes cannot be learned from.

    """
    runs: list[tuple[tuple[TaskHead, ...], tuple[HeadResult, ...]]] = []
    skipped: dict[str, Mapping[str, int]] = {}
    for number, seed in enumerate(fitting.seeds):
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
        # Intervals say how the metrics depend on the samples; the spread over seeds needs none of them.
        options = MeasureOptions(fitting.seeds[0], 0 if number else fitting.resamples, protocol.smoothed)
        measured = measure_heads(heads, [sets[name] for name in protocol.measured], options)
        runs.append((heads, measured))
    heads, measured = runs[0]
    over = [{result.name: result.metrics for result in results} for _, results in runs]
    return ProtocolResult(heads, measured, spread(over) if len(over) > 1 else {}, skipped)


def measure_heads(
    heads: Sequence[TaskHead], sets: Sequence[FeatureSet], options: MeasureOptions, *, prefix: str = ""
) -> tuple[HeadResult, ...]:
    """Every head on every set. prefix: of the names that results have in reports."""
    return tuple(
        result
        for part in sets
        for head in heads
        for result in measure(head, part, prefix + _name(head.task, part), options)
    )


def _name(task: Task, part: FeatureSet) -> str:
    """The set's, with the task's where the set has several."""
    return part.name if len(part.targets) == 1 else f"{part.name}_{task.name}"
