"""Convert fitted tasks to heads on disk, and back."""

from collections.abc import Iterable, Mapping
from math import isnan, nan

from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import AFFECT
from emotion_train.datasets.base import Task
from emotion_train.heads import AFFECT_PROBE, PROBE, HeadCard, LinearHead
from emotion_train.probing.features import FeatureKind
from emotion_train.probing.fit import TaskHead
from emotion_train.probing.measure import HeadResult
from emotion_train.probing.scorers import HEADLINE

OTHER_VALUES = "values"  # a regression whose values are not those of a bundle's affect head


def head_name(task: Task) -> str:
    """Return the file name, without suffix, of a task's head."""
    if task.kind != "regression":
        return PROBE
    return AFFECT_PROBE if set(task.labels) <= set(AFFECT) else OTHER_VALUES


def card_metrics(measured: Iterable[HeadResult], task: Task) -> dict[str, float]:
    """Return SET_METRIC of every set that a task's head was measured on.

    Undefined metrics are left out, and those of rows that the head was fitted on: cards are about new data.
    """
    return {
        f"{result.name}_{metric}": result.metrics[metric]
        for result in measured
        if result.task == task and not result.fitted
        for metric in HEADLINE[task.kind]
        if not isnan(result.metrics.get(metric, nan))
    }


def as_linear_head(
    head: TaskHead,
    metrics: Mapping[str, float],
    checkpoint_sha256: str,
    kind: FeatureKind,
    dataset: str,
    table_sha256: str | None = None,
) -> LinearHead:
    """Return a fitted head with its card, as it is stored."""
    card = HeadCard(
        kind="probe",
        labels=list(head.task.labels),
        activation=head.activation,
        temperature=head.temperature,
        metrics=dict(metrics),
        checkpoint_sha256=checkpoint_sha256,
        features=kind,
        dataset=dataset,
        table_sha256=table_sha256,
        abstain=head.abstain,
    )
    return LinearHead(head.weight, head.bias, card)


def as_task_head(
    head: LinearHead, task: Task, *, fitted_on: str | None = None, tuned_on: str | None = None
) -> TaskHead:
    """Turn a head from disk into one for a task with the same labels.

    Args:
        head: As stored.
        task: What to predict with it.
        fitted_on: Set that it was fitted on, if known.
        tuned_on: Set that its temperature was fitted on, if known.

    Raises:
        EmotionError: The labels or their order differ, or the head is of another kind than the task.
    """
    card = head.card
    if tuple(card.labels) != task.labels:
        raise EmotionError(
            f"the head has the labels {', '.join(card.labels)}, task {task.name} has "
            f"{', '.join(task.labels)}: measure it on a data set with its labels, in its order"
        )
    if (card.activation == "identity") != (task.kind == "regression"):
        raise EmotionError(
            f"the head has activation {card.activation}, task {task.name} is {task.kind.replace('_', ' ')}: "
            "measure the head on a data set of its own kind of task"
        )
    return TaskHead(
        task,
        head.weight,
        head.bias,
        card.activation,
        card.temperature,
        fitted_on=fitted_on,
        tuned_on=tuned_on,
    )
