"""Fit the linear head of one task on frozen features."""

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
    fit_votes,
)
from emotion_train.probing.features import FeatureSet
from emotion_train.probing.scorers import multi_label_scorer, single_label_scorer

_log = logging.getLogger(__name__)

ACTIVATIONS: dict[TaskKind, Activation] = {
    "single_label": "softmax",
    "multi_label": "sigmoid",
    "regression": "identity",
}
CHOSEN_BY = {"single_label": "accuracy", "multi_label": "map"}  # the metric on `tune` by which C is chosen


@dataclass(frozen=True, slots=True)
class TaskHead:
    """The head of a task: `activation((features @ weight.T + bias) / temperature)`.

    Attributes:
        task: What it predicts.
        weight: (C, D) float32.
        bias: (C,) float32.
        activation: "softmax", "sigmoid" or "identity".
        temperature: See `calibration`.
        c: Inverse regularisation strength of the classifier, None for a regression.
        fitted_on: Name of the set that the classifier was fitted on, None if it is not known.
        tuned_on: Name of the set that the temperature was fitted on, None if it was not fitted.
        chosen_on: Name of the set by which C was chosen, None if C was given.
        abstain: No label is shown if the largest probability is below this value.
        notes: What a reader of its metrics must know.
    """

    task: Task
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: Activation
    temperature: float = 1.0
    c: float | None = None
    fitted_on: str | None = None
    tuned_on: str | None = None
    chosen_on: str | None = None
    abstain: float = 0.0
    notes: tuple[str, ...] = ()

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logits (N, C), or the values of a regression, of features (N, D)."""
        return np.asarray(features.astype(np.float64) @ self.weight.T + self.bias)

    def predictions(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probabilities or values (N, C) of features (N, D), as the runtime does."""
        return activate(self.logits(features), self.activation, self.temperature)


def fit_task(
    task: Task,
    train: FeatureSet,
    tune: FeatureSet,
    *,
    grid: Sequence[float],
    seed: int,
) -> TaskHead:
    """Fit a head on `train`; choose C of `grid` and the temperature on `tune`.

    Args:
        task: What to predict.
        train: Features to fit on.
        tune: Features to choose on.
        grid: Values of C; with a single one nothing is chosen.
        seed: Of the solver.

    Raises:
        EmotionError: Targets are not finite, or a class has no examples.
    """
    for part in (train, tune):
        check_targets(task, part)
    targets = train.targets[task.name]
    if task.kind == "regression":
        weight, bias = fit_ridge(train.features, targets)
        return TaskHead(task, weight, bias, "identity", fitted_on=train.name)
    notes: list[str] = []
    if task.kind == "single_label":
        _check_classes(task, train)
    elif constant := constant_classes(targets):
        names = ", ".join(task.labels[index] for index in constant)
        notes.append(
            f"all or none of the rows of {train.name} are examples of {names}: its prediction is constant"
        )
    c, (weight, bias), converged = _best_c(task, train, tune, grid, seed=seed)
    if not converged:
        notes.append(f"the solver stopped after {MAX_ITER} iterations without converging")
    head = TaskHead(task, weight, bias, ACTIVATIONS[task.kind])
    known = tune.votes.get(task.name, tune.targets[task.name])
    temperature = fit_temperature(head.logits(tune.features), known, head.activation)
    if abs(np.log(temperature)) > 0.99 * LOG_BOUND:
        notes.append(f"the best temperature on {tune.name} is out of bounds: {temperature:.3g} is used")
    abstain = 0.0
    if task.kind == "single_label":
        abstain = abstain_threshold(activate(head.logits(tune.features), head.activation, temperature))
    return replace(
        head,
        temperature=temperature,
        abstain=abstain,
        c=c,
        fitted_on=train.name,
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
    """Return the C with the best metric on `tune`, its classifier, and whether its solver converged."""
    if len(grid) == 1:
        return grid[0], *_classifier(task, train, grid[0], seed)
    tried: list[tuple[float, float, Linear, bool]] = []
    for c in grid:
        linear, converged = _classifier(task, train, c, seed)
        metric = _metric_on(task, linear, tune)
        _log.info("%s: C %g: %s %.3f on %s", task.name, c, CHOSEN_BY[task.kind], metric, tune.name)
        tried.append((metric, c, linear, converged))
    # On ties `max` takes the first, which is the smallest C of a rising grid.
    _, c, linear, converged = max(tried, key=lambda entry: entry[0])
    return c, linear, converged


def _classifier(task: Task, train: FeatureSet, c: float, seed: int) -> tuple[Linear, bool]:
    """Return a classifier, and whether its solver converged."""
    if task.kind == "single_label" and task.name in train.votes:
        return fit_votes(train.features, train.votes[task.name], c=c), True
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
    """Check that there are rows and that their targets are valid.

    Raises:
        EmotionError: There are no rows, or a target is NaN, infinite or not a label of the task.
    """
    if not len(part):
        raise EmotionError(f"{part.name} is empty: expected rows to fit or measure {task.name}")
    targets = part.targets[task.name]
    bad = int((~np.isfinite(targets.reshape(len(part), -1))).any(axis=1).sum())
    if bad:
        raise EmotionError(
            f"{part.name}: {bad} of {len(part)} rows have a target of {task.name} that is NaN or infinite: "
            "leave these rows out of the data"
        )
    if task.kind == "single_label" and not 0 <= targets.min() <= targets.max() < len(task.labels):
        raise EmotionError(
            f"{part.name}: targets of {task.name} are from {targets.min()} to {targets.max()}: expected "
            f"indices of its {len(task.labels)} labels, from 0"
        )


def _check_classes(task: Task, train: FeatureSet) -> None:
    """Refuse missing classes: a classifier fitted without one would renumber the others."""
    present = set(train.targets[task.name].tolist())
    if len(present) == 1:
        only = task.labels[present.pop()]
        raise EmotionError(
            f"{train.name} holds a single class of {task.name}, {only}: expected rows of at least two"
        )
    missing = [name for index, name in enumerate(task.labels) if index not in present]
    if missing:
        raise EmotionError(
            f"there are no clips of {', '.join(missing)} to fit the probe on: use more training faces or "
            f"rows of {train.name}"
        )


def _metric_on(task: Task, linear: Linear, tune: FeatureSet) -> float:
    weight, bias = linear
    scores = tune.features.astype(np.float64) @ weight.T + bias
    scorer = single_label_scorer if task.kind == "single_label" else multi_label_scorer
    metrics = point_metrics(scorer(task.labels, scores, tune.targets[task.name], {}), len(tune))
    return metrics[CHOSEN_BY[task.kind]]
