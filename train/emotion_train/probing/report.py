"""Write the results of probes as JSON, as Markdown with plots, and as lines for the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from emotion_runtime.files import write_atomically
from emotion_train.probing.calibration import confidences_of
from emotion_train.probing.measure import HeadResult, Interval
from emotion_train.probing.plots import confusion_png, regression_png, reliability_png
from emotion_train.probing.published import SOURCE, published, remarks
from emotion_train.probing.scorers import HEADLINE
from emotion_train.tables import markdown_table, percent, percent_interval

Spread = Mapping[str, Mapping[str, Mapping[str, float]]]  # set -> metric -> mean, std

_BY_CLASS = {
    "single_label": ("recall", "f1"),
    "multi_label": ("ap", "auc"),
    "regression": ("r2", "mse", "pcc"),
}
_TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "weighted_f1": "weighted F1",
    "map": "mAP",
    "auc": "AUC, macro",
    "top1": "top-1 is a label",
    "r2": "R², mean",
    "mse": "MSE, mean",
    "pcc": "PCC, mean",
    "ece": "calibration error",
    "ece_unscaled": "calibration error before temperature scaling",
}
_CLASS_TITLES = {
    "recall": "recall",
    "f1": "F1",
    "ap": "AP",
    "auc": "AUC",
    "r2": "R²",
    "mse": "MSE",
    "pcc": "PCC",
}
_NOT_FRACTIONS = ("r2", "mse", "pcc", "ece", "ece_unscaled", "pairs")  # not written in per cent
MOST_CLASSES_DRAWN = 30
REPORT = "report"  # of fit-probe


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """Everything that a report contains.

    Attributes:
        dataset: Name of the data set.
        about: Where the numbers come from, by name.
        measured: Results of heads.
        skipped: Number of rows left out, by split and reason.
        extras: Metrics and intervals of sets that belong to no task.
        spread: Mean and standard deviation over the seeds; empty with one seed.
        heads: Names of the heads that were written beside the report.
    """

    dataset: str
    about: Mapping[str, Any]
    measured: Sequence[HeadResult]
    skipped: Mapping[str, Mapping[str, int]]
    extras: Mapping[str, tuple[Mapping[str, float], Mapping[str, Interval]]]
    spread: Spread
    heads: Sequence[str] = ()


def write_report(folder: Path, report: ProbeReport, name: str = REPORT) -> None:
    """Write NAME.json, NAME.md and the plots that it shows.

    The plots of other reports than that of fit-probe begin with NAME_, so that they replace none of it.

    Raises:
        EmotionError: The folder cannot be written to.
    """
    files: dict[str, list[str]] = {}
    for result in report.measured:
        for kind, content in _plots(result, report.dataset).items():
            file = f"{'' if name == REPORT else f'{name}_'}{kind}_{result.name}.png"
            write_atomically(folder / file, content)
            files.setdefault(result.name, []).append(file)
    write_atomically(folder / f"{name}.md", as_markdown(report, files))
    plots = [file for of_set in files.values() for file in of_set]
    json = msgspec.json.format(msgspec.json.encode({**as_dict(report), "plots": plots}), indent=2)
    write_atomically(folder / f"{name}.json", json + b"\n")


def summary_lines(report: ProbeReport) -> list[str]:
    """Return one line per set, for the terminal."""
    rows = {
        result.name: {key: result.metrics[key] for key in HEADLINE[result.task.kind] if key in result.metrics}
        for result in report.measured
    }
    rows |= {name: dict(metrics) for name, (metrics, _) in report.extras.items()}
    return [
        f"{name:22s} {'  '.join(f'{key} {_text(key, value)}' for key, value in metrics.items())}"
        for name, metrics in rows.items()
    ]


def as_dict(report: ProbeReport) -> dict[str, Any]:
    """Return the report for JSON: the metrics of each set under its name, and everything else beside them.

    NaN becomes null when it is encoded.
    """
    sets = {result.name: result.metrics for result in report.measured}
    extras = {name: dict(metrics) for name, (metrics, _) in report.extras.items()}
    intervals = {result.name: result.intervals for result in report.measured}
    intervals |= {name: dict(found) for name, (_, found) in report.extras.items()}
    return {
        **sets,
        **extras,
        "dataset": report.dataset,
        "heads": list(report.heads),
        "about": dict(report.about),
        "sizes": {
            result.name: {"samples": result.samples, "groups": result.groups} for result in report.measured
        },
        "support": {
            result.name: dict(zip(result.task.labels, result.support, strict=True))
            for result in report.measured
            if result.support
        },
        "intervals": intervals,
        "spread": report.spread,
        "skipped": report.skipped,
        "notes": {result.name: result.notes for result in report.measured if result.notes},
        "published": [
            {
                "method": row.method,
                "evaluation": row.evaluation,
                "multimodal": row.multimodal,
                "source": SOURCE,
                **{f"{name}_{metric}": value for (name, metric), value in row.metrics.items()},
            }
            for row in published(report.dataset)
        ],
    }


def as_markdown(report: ProbeReport, plots: Mapping[str, Sequence[str]]) -> str:
    """Return the report for readers.

    Args:
        report: The results.
        plots: File names of the plots, by name of the result.
    """
    lines = [f"# {report.dataset}", ""]
    lines += [f"- {name}: {value}" for name, value in report.about.items()]
    for result in report.measured:
        lines += _set_lines(result, report.spread.get(result.name, {}))
        lines += [f"![{file}]({file})" for file in plots.get(result.name, ())]
    for name, (metrics, intervals) in report.extras.items():
        cells = [(key, _text(key, value), _interval(key, intervals)) for key, value in metrics.items()]
        lines += ["", f"## {name}", "", markdown_table(("metric", "value", "95 % interval"), cells)]
    lines += _published_lines(report)
    lines += ["", "## Rows left out", ""]
    rows = [(split, reason, str(n)) for split, by in report.skipped.items() for reason, n in by.items() if n]
    lines += [markdown_table(("split", "reason", "rows"), rows)] if rows else ["None."]
    return "\n".join(lines) + "\n"


def _set_lines(result: HeadResult, spread: Mapping[str, Mapping[str, float]]) -> list[str]:
    rows = []
    for key in HEADLINE[result.task.kind]:
        if key in result.metrics:
            cells = [_TITLES[key], _text(key, result.metrics[key]), _interval(key, result.intervals)]
            if spread:
                cells.append(f"{_text(key, spread[key]['mean'])} ± {_text(key, spread[key]['std'])}")
            rows.append(cells)
    header = ["metric", "value", "95 % interval", *(["over seeds"] if spread else [])]
    lines = ["", f"## {result.name}", "", f"{result.samples} samples in {result.groups} groups.", ""]
    lines.append(markdown_table(header, rows))
    if result.notes:
        lines += ["", *(f"- {note}" for note in result.notes)]
    return [*lines, "", _class_table(result), ""]


def _class_table(result: HeadResult) -> str:
    kinds = _BY_CLASS[result.task.kind]
    header = ["class", "examples"] if result.support else ["value"]
    for kind in kinds:
        header += [_CLASS_TITLES[kind], "95 % interval"]
    rows = []
    for index, label in enumerate(result.task.labels):
        cells = [label, str(result.support[index])] if result.support else [label]
        for kind in kinds:
            key = f"{kind}_{label}"
            cells += [_text(kind, result.metrics[key]), _interval(key, result.intervals, kind)]
        rows.append(cells)
    return markdown_table(header, rows)


def _published_lines(report: ProbeReport) -> list[str]:
    rows = published(report.dataset)
    columns = list(dict.fromkeys(column for row in rows for column in row.metrics))
    own = {result.name: result.metrics for result in report.measured}
    if not any(name in own for name, _ in columns):  # the user's own data, zero-shot heads, or other splits
        return []
    titles = [f"{name}: {_TITLES.get(metric, metric)}" for name, metric in columns]
    cells = []
    for row in rows:
        values = [_text(column[1], row.metrics.get(column, float("nan"))) for column in columns]
        star = " (with sound or text)" if row.multimodal else ""
        cells.append([row.method + star, row.evaluation, *values])
    ours = [
        f"**{_text(metric, own[name][metric])}**" if name in own else "not measured"
        for name, metric in columns
    ]
    cells.append(["**this checkpoint**", "linear", *ours])
    notes = [line for text in remarks(report.dataset) for line in (text, "")]
    table = markdown_table(["method", "evaluation", *titles], cells)
    return ["", f"## Compared with {SOURCE}", "", *notes, table]


def _plots(result: HeadResult, dataset: str) -> dict[str, bytes]:
    """Return PNGs by what they show."""
    labels, title = result.task.labels, f"{dataset}, {result.name}"
    if result.task.kind == "regression":
        return {"regression": regression_png(labels, result.predictions, result.targets, title)}
    plots = {}
    if result.task.kind == "single_label" and len(labels) <= MOST_CLASSES_DRAWN:
        predicted = result.predictions.argmax(axis=1)
        truth = np.asarray(result.targets, np.int64)
        plots["confusion"] = confusion_png(labels, predicted, truth, title)
    if "ece" in result.metrics:
        probabilities = {"measured": result.predictions, "before temperature scaling": result.unscaled}
        curves = {
            name: confidences_of(values, result.targets, result.votes)
            for name, values in probabilities.items()
            if values is not None
        }
        error = f"calibration error {result.metrics['ece']:.3f}"
        plots["reliability"] = reliability_png(curves, f"{title}: {error}")
    return plots


def _is_fraction(key: str) -> bool:
    return key not in _NOT_FRACTIONS and key.partition("_")[0] not in ("r2", "mse", "pcc")


def _text(key: str, value: float) -> str:
    """Write a fraction in per cent and another metric with three decimals; an undefined one is n/a."""
    if np.isnan(value):
        return "n/a"
    if key == "pairs":
        return f"{value:.0f}"
    return percent(value, 2) if _is_fraction(key) else f"{value:.3f}"


def _interval(key: str, intervals: Mapping[str, Interval], kind: str | None = None) -> str:
    if key not in intervals or np.isnan(intervals[key][0]):
        return "n/a"
    low, high = intervals[key]
    if _is_fraction(kind or key):
        return percent_interval(low, high, 2)
    return f"{_text(kind or key, low)} to {_text(kind or key, high)}"
