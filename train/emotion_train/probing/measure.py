"""Measure heads on sets: metrics, intervals, and the predictions that the plots show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.heads import activate
from emotion_train.datasets.base import Task
from emotion_train.probing.bootstrap import (
    FEW_GROUPS,
    RESAMPLES,
    Scorer,
    bootstrap_intervals,
    cluster_indices,
    point_metrics,
)
from emotion_train.probing.calibration import fit_temperature
from emotion_train.probing.features import FeatureSet
from emotion_train.probing.fit import TaskHead, check_targets
from emotion_train.probing.scorers import HEADLINE, multi_label_scorer, regression_scorer, single_label_scorer
from emotion_train.probing.smoothing import smooth_all, smooth_films

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class HeadResult:
    """The results of one head on one set.

    Attributes:
        name: Of the set, followed by the task's name if the set has several tasks.
        task: What was predicted.
        samples: Number of rows.
        groups: Number of clusters, see `FeatureSet.groups`.
        metrics: By name; NaN where a metric is undefined.
        intervals: 95 % intervals by name of the metric.
        support: (C,) rows of each class, empty for a regression.
        predictions: (N, C) calibrated probabilities, or values.
        unscaled: (N, C) probabilities at temperature 1, None where no temperature was fitted.
        targets: See `FeatureSet`.
        notes: What a reader of the metrics must know.
        votes: See `FeatureSet`; None without votes.
        fitted: Whether the head was fitted on these rows.
    """

    name: str
    task: Task
    samples: int
    groups: int
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    support: tuple[int, ...]
    predictions: NDArray[np.float64]
    unscaled: NDArray[np.float64] | None
    targets: NDArray[np.generic]
    notes: tuple[str, ...]
    votes: NDArray[np.float32] | None = None
    fitted: bool = False


@dataclass(frozen=True, slots=True)
class MeasureOptions:
    """How to measure.

    Attributes:
        seed: Of the bootstrap.
        resamples: Number of bootstrap resamples; 0 computes no intervals.
        smoothed: See `Protocol`.
    """

    seed: int
    resamples: int = RESAMPLES
    smoothed: bool = False


def measure(head: TaskHead, part: FeatureSet, name: str, options: MeasureOptions) -> list[HeadResult]:
    """Measure a head on a set.

    Args:
        head: To be measured.
        part: Features and targets.
        name: Of the result.
        options: How to measure.

    Returns:
        One result, or three if films are smoothed: as one series, film by film, and not at all.

    Raises:
        EmotionError: The set is empty, or a target is not finite or not a label.
    """
    check_targets(head.task, part)
    if head.task.kind == "regression":
        return _measure_values(head, part, name, options)
    targets = part.targets[head.task.name]
    logits = head.logits(part.features)
    clusters = cluster_indices(part.groups)
    scaled, notes = calibrated(head, part, clusters, options.seed)
    unscaled = None if head.tuned_on is None else activate(logits, head.activation)
    probabilities = {}
    # A softmax over several labels states no probability for each of them, so it has no calibration error.
    if head.task.kind == "single_label" or head.activation == "sigmoid":
        probabilities["ece"] = scaled
        if unscaled is not None:
            probabilities["ece_unscaled"] = unscaled
    if head.task.kind == "single_label":
        scorer = single_label_scorer(
            head.task.labels, logits, targets, probabilities, part.votes.get(head.task.name)
        )
        support = np.bincount(targets, minlength=len(head.task.labels))
        notes += _absent(head.task, support)
    else:
        scores = scaled if head.activation == "softmax" else logits
        scorer = multi_label_scorer(head.task.labels, scores, targets, probabilities)
        support = (targets > 0).sum(axis=0)
        notes += _absent(head.task, support) + _everywhere(head.task, support, len(part))
    if options.resamples:
        notes += _scarce(head.task, targets, clusters)
    evidence = _Evidence(scaled, unscaled, tuple(support.tolist()), notes)
    return [_result(head, scorer, part, name, options, evidence)]


def calibrated(
    head: TaskHead, part: FeatureSet, clusters: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return probabilities (N, C) at the head's temperature, and notes on it.

    On the set that the temperature was fitted on, the result would be too good: there, each half of the
    clusters gets the temperature fitted on the other half.
    """
    logits = head.logits(part.features)
    targets = part.votes.get(head.task.name, part.targets[head.task.name])
    if head.tuned_on != part.name:
        return activate(logits, head.activation, head.temperature), ()
    count = int(clusters.max()) + 1
    if count < 2:
        note = f"the temperature was fitted on {part.name} itself, whose single group cannot be split in two"
        return activate(logits, head.activation, head.temperature), (note,)
    first = np.random.default_rng(seed).permutation(count)[: count // 2]
    half = np.isin(clusters, first)
    predictions = np.empty_like(logits)
    for rows in (half, ~half):
        temperature = fit_temperature(logits[~rows], targets[~rows], head.activation)
        predictions[rows] = activate(logits[rows], head.activation, temperature)
    note = f"ece: each half of the groups of {part.name} is measured with the temperature of the other half"
    return predictions, (note,)


def _measure_values(head: TaskHead, part: FeatureSet, name: str, options: MeasureOptions) -> list[HeadResult]:
    values, targets = head.predictions(part.features), part.targets[head.task.name]
    evidence = {name: _Evidence(values, None, (), ())}
    if options.smoothed:
        smoothed = {name: smooth_all(values), f"{name}_by_film": smooth_films(values, part.groups)}
        evidence = {
            key: _Evidence(smooth, None, (), _short(short)) for key, (smooth, short) in smoothed.items()
        }
        evidence[f"{name}_unsmoothed"] = _Evidence(values, None, (), ())
    scorers = {
        key: regression_scorer(head.task.labels, each.predictions, targets) for key, each in evidence.items()
    }
    return [_result(head, scorers[key], part, key, options, each) for key, each in evidence.items()]


def _short(films: tuple[str, ...]) -> tuple[str, ...]:
    return (f"not smoothed, since shorter than the window: {', '.join(films)}",) if films else ()


@dataclass(frozen=True, slots=True)
class _Evidence:
    """The parts of a `HeadResult` that depend on the kind of task."""

    predictions: NDArray[np.float64]
    unscaled: NDArray[np.float64] | None
    support: tuple[int, ...]
    notes: tuple[str, ...]


def _result(
    head: TaskHead, scorer: Scorer, part: FeatureSet, name: str, options: MeasureOptions, evidence: _Evidence
) -> HeadResult:
    notes = evidence.notes
    clusters = cluster_indices(part.groups)
    count = int(clusters.max()) + 1
    if count < FEW_GROUPS and options.resamples:
        notes += (f"intervals over only {count} groups are too narrow to be reliable",)
    if head.chosen_on == part.name:
        notes += (f"C was chosen on {part.name} itself, so these metrics are optimistic",)
    fitted = head.fitted_on == part.name
    if fitted:
        notes += ("the head was fitted on these rows: the metrics say nothing about new data",)
    metrics = point_metrics(scorer, len(part))
    undefined = [key for key in HEADLINE[head.task.kind] if np.isnan(metrics.get(key, 0))]
    if undefined:
        notes += (f"undefined on this set: {', '.join(undefined)}",)
    between = (
        bootstrap_intervals(scorer, clusters, seed=options.seed, resamples=options.resamples)
        if options.resamples
        else {}
    )
    return HeadResult(
        name,
        head.task,
        len(part),
        count,
        metrics,
        between,
        evidence.support,
        evidence.predictions,
        evidence.unscaled,
        part.targets[head.task.name],
        (*head.notes, *notes),
        part.votes.get(head.task.name),
        fitted,
    )


def _absent(task: Task, support: NDArray[np.int64]) -> tuple[str, ...]:
    names = [name for name, count in zip(task.labels, support, strict=True) if not count]
    if not names:
        return ()
    if len(names) == len(task.labels) - 1 and task.kind == "single_label":
        return (
            f"contains a single class, {task.labels[int(support.argmax())]}: its metrics are not informative",
        )
    return (f"no examples, so left out of the means over classes: {', '.join(names)}",)


def _scarce(task: Task, targets: NDArray[Any], clusters: NDArray[np.int64]) -> tuple[str, ...]:
    """Name the classes for whose intervals there are too few groups, unless there are too few in all."""
    if int(clusters.max()) + 1 < FEW_GROUPS:
        return ()
    members = targets[:, None] == np.arange(len(task.labels)) if targets.ndim == 1 else targets > 0
    counts = [len(np.unique(clusters[rows])) for rows in members.T]
    few = [f"{name} ({n})" for name, n in zip(task.labels, counts, strict=True) if 0 < n < FEW_GROUPS]
    note = (
        f"fewer than {FEW_GROUPS} groups have an example of {', '.join(few)}: intervals of these classes and "
        "of means over classes are too narrow"
    )
    return (note,) if few else ()


def _everywhere(task: Task, support: NDArray[np.int64], samples: int) -> tuple[str, ...]:
    names = [name for name, count in zip(task.labels, support, strict=True) if count == samples]
    return (f"in every example, so left out of the mean AUC: {', '.join(names)}",) if names else ()


def spread(
    runs: Sequence[dict[str, dict[str, float]]],
) -> dict[str, dict[str, dict[str, float]]]:
    """Return mean and sample standard deviation over seeds of every metric: set -> metric -> mean, std."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for name in runs[0]:
        result[name] = {}
        for metric in runs[0][name]:
            values = np.array([run[name][metric] for run in runs])
            std = float(values.std(ddof=1)) if len(values) > 1 else 0.0
            result[name][metric] = {"mean": float(values.mean()), "std": std}
    return result
