"""Fit the head of one task on frozen features."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_runtime.heads import activate
from emotion_runtime.manifest import Activation
from emotion_train.datasets.base import Task, TaskKind
from emotion_train.probing.bootstrap import point_metrics
from emotion_train.probing.calibration import LOG_BOUND, abstain_threshold, fit_temperature
from emotion_train.probing.classifiers import (
    MAX_ITER,
    Linear,
    constant_classes,
    fit_logistic,
    fit_one_vs_rest,
    fit_ridge,
)
from emotion_train.probing.features import FeatureSet
from emotion_train.probing.scorers import multi_label_scorer, single_label_scorer

_log = logging.getLogger(__name__)

ACTIVATIONS: dict[TaskKind, Activation] = {
    "single_label": "softmax",
    "multi_label": "sigmoid",
    "regression": "identity",
}
CHOSEN_BY = {"single_label": "accuracy", "multi_label": "map"}  # the metric on `tune` that decides on C


@dataclass(frozen=True, slots=True)
class TaskHead:
    """`activation((features @ weight.T + bias) / temperature)` for a task; weight (C, D), bias (C,) float32.

    tuned_on: name of the set that the temperature was fitted on, None where nothing was. chosen_on: name of
    the set that decided on C, None where it was given. abstain: the largest probability under which no label
    is given. notes: what a reader of its metrics must know.
    """

    task: Task
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: Activation
    temperature: float = 1.0
    c: float | None = None
    tuned_on: str | None = None
    chosen_on: str | None = None
    abstain: float = 0.0
    notes: tuple[str, ...] = ()

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N, D) -> (N, C), or the values of a regression."""
        return np.asarray(features.astype(np.float64) @ self.weight.T + self.bias)

    def predictions(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N, D) -> (N, C) probabilities or values, as the runtime gives them."""
        return activate(self.logits(features), self.activation, self.temperature)


def fit_task(
    task: Task,
    train: FeatureSet,
    tune: FeatureSet,
    *,
    grid: Sequence[float],
    seed: int,
) -> TaskHead:
    """Fit on `train`; choose C of `grid` and the temperature on `tune`.

    Raises:
        EmotionError: targets are no finite numbers, or the classes cannot be told apart from what is there.

    """
    for part in (train, tune):
        check_targets(task, part)
    targets = train.targets[task.name]
    if task.kind == "regression":
        weight, bias = fit_ridge(train.features, targets)
        return TaskHead(task, weight, bias, "identity")
    notes: list[str] = []
    if task.kind == "single_label":
        _check_classes(task, train)
    elif constant := constant_classes(targets):
        names = ", ".join(task.labels[number] for number in constant)
        notes.append(
            f"{train.name} has no example, or nothing but examples, of {names}: a constant prediction"
        )
    c, (weight, bias), converged = _best_c(task, train, tune, grid, seed=seed)
    if not converged:
        notes.append(f"the solver stopped after {MAX_ITER} iterations before it had converged")
    head = TaskHead(task, weight, bias, ACTIVATIONS[task.kind])
    temperature = fit_temperature(head.logits(tune.features), tune.targets[task.name], head.activation)
    if abs(np.log(temperature)) > 0.99 * LOG_BOUND:
        notes.append(f"no temperature within bounds is likeliest on {tune.name}: {temperature:.3g} was taken")
    abstain = 0.0
    if task.kind == "single_label":
        abstain = abstain_threshold(activate(head.logits(tune.features), head.activation, temperature))
    return replace(
        head,
        temperature=temperature,
        abstain=abstain,
        c=c,
        tuned_on=tune.name,
        chosen_on=tune.name if len(grid) > 1 else None,
        notes=tuple(notes),
    )


def _best_c(
    task: Task,
    train: FeatureSet,
    tune: FeatureSet,
    grid: Sequence[float],
    *,
    seed: int,
) -> tuple[float, Linear, bool]:
    """The C of the best metric on `tune`, its classifier, and whether its solver came to an end."""
    if len(grid) == 1:
        return grid[0], *_classifier(task, train, grid[0], seed)
    tried: list[tuple[float, float, Linear, bool]] = []
    for c in grid:
        linear, converged = _classifier(task, train, c, seed)
        metric = _metric_on(task, linear, tune)
        _log.info("%s: C %g: %s %.3f on %s", task.name, c, CHOSEN_BY[task.kind], metric, tune.name)
        tried.append((metric, c, linear, converged))
    _, c, linear, converged = max(tried, key=lambda entry: entry[0])  # of equals, the first: the smallest C
    return c, linear, converged


def _classifier(task: Task, train: FeatureSet, c: float, seed: int) -> tuple[Linear, bool]:
    """A classifier, and whether its solver came to an end."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - slow to import

    fit = fit_logistic if task.kind == "single_label" else fit_one_vs_rest
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        linear = fit(train.features, train.targets[task.name], c=c, seed=seed)
    stopped = [warning for warning in caught if issubclass(warning.category, ConvergenceWarning)]
    for warning in caught:
        if warning not in stopped:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return linear, not stopped


def check_targets(task: Task, part: FeatureSet) -> None:
    """There are rows, and their targets are numbers that can be.

    Raises:
        EmotionError: there are none, or a target is NaN, infinite or no label of the task.

    """
    if not len(part):
        raise EmotionError(f"{part.name} is empty: nothing to fit {task.name} on or to measure it with")
    targets = part.targets[task.name]
    bad = int((~np.isfinite(targets.reshape(len(part), -1))).any(axis=1).sum())
    if bad:
        raise EmotionError(
            f"{part.name}: {bad} of {len(part)} rows have a target of {task.name} that is NaN or infinite: "
            "leave these rows out of the data"
        )
    if task.kind == "single_label" and not 0 <= targets.min() <= targets.max() < len(task.labels):
        raise EmotionError(
            f"{part.name}: targets of {task.name} from {targets.min()} to {targets.max()}, expected numbers "
            f"of its {len(task.labels)} labels, from 0"
        )


def _check_classes(task: Task, train: FeatureSet) -> None:
    """A classifier fitted without a class would number the rest anew."""
    present = set(train.targets[task.name].tolist())
    if len(present) == 1:
        only = task.labels[present.pop()]
        raise EmotionError(
            f"{train.name} holds a single class of {task.name}, {only}: expected rows of at least two"
        )
    missing = [name for number, name in enumerate(task.labels) if number not in present]
    if missing:
        raise EmotionError(
            f"no clip of {', '.join(missing)} to fit the probe on: take more training faces or rows of "
            f"{train.name}"
        )


def _metric_on(task: Task, linear: Linear, tune: FeatureSet) -> float:
    weight, bias = linear
    scores = tune.features.astype(np.float64) @ weight.T + bias
    scorer = single_label_scorer if task.kind == "single_label" else multi_label_scorer
    metrics = point_metrics(scorer(task.labels, scores, tune.targets[task.name], {}), len(tune))
    return metrics[CHOSEN_BY[task.kind]]
