"""Measure predictions by the values of columns: for whom a model is right, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from emotion_train.probing.bootstrap import (
    FEW_GROUPS,
    Metrics,
    Scorer,
    Weights,
    bootstrap_intervals,
    cluster_indices,
    point_metrics,
)
from emotion_train.probing.metrics import weighted_mean
from emotion_train.probing.scorers import single_label_scorer
from emotion_train.tables import markdown_table, percent

FEW_ROWS = 30  # below that an interval says little
EMPTY = "(empty)"  # the value of an empty cell
_SHOWN = ("accuracy", "balanced_accuracy", "ece")


@dataclass(frozen=True, slots=True)
class Rows:
    """Predictions for N labelled rows.

    Attributes:
        names: The C labels of the head.
        labels: (N,) int64, positions in `names`.
        probabilities: (N, C); rows of NaN where the person was not found.
        shown: (N,) bool, whether a label was shown; otherwise the runtime was not sure or found nobody.
        groups: (N,) clusters that are resampled together, for example the person or the video.
        columns: Values of the N rows, by column.
        skipped: Number of rows that were left out, by reason.
    """

    names: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    shown: NDArray[np.bool_]
    groups: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    skipped: Mapping[str, int] = field(default_factory=dict)

    @property
    def found(self) -> NDArray[np.bool_]:
        """Whether the person was found, (N,)."""
        return np.asarray(np.isfinite(self.probabilities).all(axis=1))


@dataclass(frozen=True, slots=True)
class GroupResult:
    """The results of the rows with one value of a column.

    Attributes:
        column: The column; empty for all rows.
        value: The value.
        rows: Number of rows.
        clusters: Number of clusters, see `Rows.groups`.
        few: Whether there are too few rows or clusters for conclusions.
        metrics: By name: of all rows `found` and `not_sure` (fractions); of the rows where the person was
            found `accuracy`, `balanced_accuracy`, `ece` of the likeliest label, and `difference`, the
            accuracy minus that of all other rows. Those that are undefined are left out.
        intervals: 95 % intervals of the metrics.
    """

    column: str
    value: str
    rows: int
    clusters: int
    few: bool
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]


def measure_groups(rows: Rows, *, resamples: int, seed: int) -> list[GroupResult]:
    """Measure all rows, and the rows with each value of each column."""
    everyone = np.ones(len(rows.labels), np.bool_)
    results = [_measure(rows, everyone, "", "all", resamples, seed)]
    for column, values in rows.columns.items():
        cells = np.array(values)
        results += [
            _measure(rows, cells == value, column, value, resamples, seed) for value in sorted(set(values))
        ]
    return results


def _measure(
    rows: Rows, chosen: NDArray[np.bool_], column: str, value: str, resamples: int, seed: int
) -> GroupResult:
    clusters = cluster_indices(rows.groups)
    scorer = _scorer(rows, chosen)
    points = point_metrics(scorer, len(chosen))
    between = bootstrap_intervals(scorer, clusters, seed=seed, resamples=resamples) if resamples else {}
    defined = {name: number for name, number in points.items() if np.isfinite(number)}
    count, groups = int(chosen.sum()), len(set(clusters[chosen].tolist()))
    return GroupResult(
        column,
        value,
        count,
        groups,
        count < FEW_ROWS or groups < FEW_GROUPS,
        {name: round(number, 4) for name, number in defined.items()},
        {name: between[name] for name in defined if name in between},
    )


def _scorer(rows: Rows, chosen: NDArray[np.bool_]) -> Scorer:
    """Return a scorer of the chosen rows with weights of all rows, so that they can be compared."""
    found = rows.found
    inside, outside = np.flatnonzero(chosen & found), np.flatnonzero(~chosen & found)
    probability = rows.probabilities
    right = probability.argmax(axis=1) == rows.labels
    score_labels = (
        single_label_scorer(
            rows.names, probability[inside], rows.labels[inside], {"ece": probability[inside]}
        )
        if len(inside)
        else None
    )

    def score(weights: Weights) -> Metrics:
        part = weights[:, chosen]
        with np.errstate(invalid="ignore", divide="ignore"):  # resamples without any of these rows
            metrics: Metrics = {
                "found": weighted_mean(found[chosen], part),
                "not_sure": weighted_mean(~rows.shown[chosen], part),
            }
            if score_labels is not None:
                values = score_labels(weights[:, inside])
                metrics |= {name: values[name] for name in _SHOWN}
                if len(outside):
                    rest = weighted_mean(right[outside], weights[:, outside])
                    metrics["difference"] = values["accuracy"] - rest
        return metrics

    return score


_PAGE = """# Accuracy by {columns}

Bundle `{bundle}`, table `{table}`: {count} rows{skipped}. Every image went through the whole runtime: its
detector, its limits of quality and its head. Found: somebody was detected (where the row has a box, in it).
Not sure: no label was shown, because nobody was found, the view was not good enough or no emotion was likely
enough. Accuracy, balanced accuracy and calibration error are those of the likeliest emotion of the people
found. Difference: accuracy minus that of all other rows. In brackets: 95 % bootstrap intervals over groups;
those of balanced accuracy are too narrow where one of the emotions occurs in under {few_groups} groups.

{tables}

"few": under {few_rows} rows or {few_groups} groups. Draw no conclusion from these.

## What this shows, and what it does not

- It shows whether the predictions agree with the labels of **this table** as well for one value as for the
  others. An interval of the difference that contains 0 means that the rows do not tell, not that there is no
  difference.
- With {comparisons} comparisons, about one in twenty intervals leaves out the true value by chance.
- It does not show **why** there is a difference: light, distance, pose, age, the share of each emotion, or
  labels that annotators gave by other standards differ between groups, too. Look at the errors.
- Labels are what somebody saw in a face, not what a person felt; values such as gender or origin that
  somebody guessed are guesses.
- It says nothing about people, cameras, places and groups that are not in the table, and equal numbers do
  not make a use of the model lawful or fair: see the model card.
"""


def page(results: Sequence[GroupResult], rows: Rows, *, bundle: str, table: str) -> str:
    """Return the report as Markdown."""
    skipped = ", ".join(f"{reason}: {count}" for reason, count in rows.skipped.items())
    columns = list(rows.columns)
    tables = [f"## `{column}`\n\n{_table([results[0], *_of(results, column)])}" for column in columns]
    return _PAGE.format(
        columns=", ".join(f"`{column}`" for column in columns),
        bundle=bundle,
        table=table,
        count=len(rows.labels),
        skipped=f" (left out: {skipped})" if skipped else "",
        tables="\n\n".join(tables),
        few_rows=FEW_ROWS,
        few_groups=FEW_GROUPS,
        comparisons=len(results) - 1,
    )


def _of(results: Sequence[GroupResult], column: str) -> list[GroupResult]:
    return [result for result in results if result.column == column]


def _table(results: Sequence[GroupResult]) -> str:
    header = (
        "value",
        "rows",
        "groups",
        "found",
        "not sure",
        "accuracy",
        "balanced",
        "difference",
        "calibration error",
        "",
    )
    return markdown_table(header, [_cells(result) for result in results])


def _cells(result: GroupResult) -> tuple[str, ...]:
    def shown(name: str) -> str:
        if name not in result.metrics:
            return ""
        text = percent(result.metrics[name])
        low, high = result.intervals.get(name, (np.nan, np.nan))
        return f"{text} ({100 * low:.1f} to {100 * high:.1f})" if np.isfinite(low) else text

    error = result.metrics.get("ece")
    return (
        result.value,
        str(result.rows),
        str(result.clusters),
        shown("found"),
        shown("not_sure"),
        shown("accuracy"),
        shown("balanced_accuracy"),
        shown("difference"),
        "" if error is None else f"{error:.3f}",
        "few" if result.few else "",
    )
