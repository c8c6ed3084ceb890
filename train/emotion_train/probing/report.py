"""What a probe is worth, for machines (report.json), for readers (report.md) and as pictures."""

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
    "ece_unscaled": "the same before temperature scaling",
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
_PLAIN = ("r2", "mse", "pcc", "ece", "ece_unscaled", "pairs")  # no shares: not written in per cent
MOST_CLASSES_DRAWN = 30


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """about: where the metrics come from, by name. skipped: rows left out, by split and reason.

    extras: metrics and intervals of sets that are no task's. spread: over the seeds, empty with one.
    """

    dataset: str
    about: Mapping[str, Any]
    measured: Sequence[HeadResult]
    skipped: Mapping[str, Mapping[str, int]]
    extras: Mapping[str, tuple[Mapping[str, float], Mapping[str, Interval]]]
    spread: Spread


def write_report(folder: Path, report: ProbeReport, name: str = "report") -> None:
    """Write NAME.json, NAME.md and the pictures that it shows.

    Raises:
        EmotionError: the folder cannot be written to.

    """
    pictures: dict[str, list[str]] = {}
    for measured in report.measured:
        for kind, content in _pictures(measured, report.dataset).items():
            file = f"{kind}_{measured.name}.png"
            write_atomically(folder / file, content)
            pictures.setdefault(measured.name, []).append(file)
    write_atomically(folder / f"{name}.md", as_markdown(report, pictures).encode())
    json = msgspec.json.format(msgspec.json.encode(as_dict(report)), indent=2)
    write_atomically(folder / f"{name}.json", json + b"\n")


def summary_lines(report: ProbeReport) -> list[str]:
    """One line a set, for a screen."""
    rows = {
        m.name: {key: m.metrics[key] for key in HEADLINE[m.task.kind] if key in m.metrics}
        for m in report.measured
    }
    rows |= {name: dict(metrics) for name, (metrics, _) in report.extras.items()}
    return [
        f"{name:22s} {'  '.join(f'{key} {_text(key, value)}' for key, value in metrics.items())}"
        for name, metrics in rows.items()
    ]


def as_dict(report: ProbeReport) -> dict[str, Any]:
    """Every set's metrics under its name, and what belongs to them beside; NaN becomes null."""
    sets = {measured.name: measured.metrics for measured in report.measured}
    extras = {name: dict(metrics) for name, (metrics, _) in report.extras.items()}
    between = {measured.name: measured.intervals for measured in report.measured}
    between |= {name: dict(found) for name, (_, found) in report.extras.items()}
    return {
        **sets,
        **extras,
        "dataset": report.dataset,
        "about": dict(report.about),
        "sizes": {m.name: {"samples": m.samples, "groups": m.groups} for m in report.measured},
        "support": {
            m.name: dict(zip(m.task.labels, m.support, strict=True)) for m in report.measured if m.support
        },
        "intervals": between,
        "spread": report.spread,
        "skipped": report.skipped,
        "notes": {m.name: m.notes for m in report.measured if m.notes},
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


def as_markdown(report: ProbeReport, pictures: Mapping[str, Sequence[str]]) -> str:
    """The report for readers."""
    lines = [f"# {report.dataset}", ""]
    lines += [f"- {name}: {value}" for name, value in report.about.items()]
    for measured in report.measured:
        lines += _set_lines(measured, report.spread.get(measured.name, {}))
        lines += [f"![{file}]({file})" for file in pictures.get(measured.name, ())]
    for name, (metrics, between) in report.extras.items():
        lines += ["", f"## {name}", "", "| metric | value | 95 % interval |", "|---|---|---|"]
        lines += [_row([key, _text(key, value), _span(key, between)]) for key, value in metrics.items()]
    lines += _published_lines(report)
    lines += ["", "## Left out", ""]
    rows = [(split, reason, n) for split, by in report.skipped.items() for reason, n in by.items() if n]
    if rows:
        lines += ["| split | reason | rows |", "|---|---|---|"]
        lines += [_row([split, reason, str(n)]) for split, reason, n in rows]
    else:
        lines += ["Nothing."]
    return "\n".join(lines) + "\n"


def _set_lines(measured: HeadResult, spread: Mapping[str, Mapping[str, float]]) -> list[str]:
    over_seeds = " over seeds |" if spread else ""
    lines = [
        "",
        f"## {measured.name}",
        "",
        f"{measured.samples} samples in {measured.groups} groups.",
        "",
        f"| metric | value | 95 % interval |{over_seeds}",
        f"|---|---|---|{'---|' if spread else ''}",
    ]
    for key in HEADLINE[measured.task.kind]:
        if key in measured.metrics:
            cells = [_TITLES[key], _text(key, measured.metrics[key]), _span(key, measured.intervals)]
            if spread:
                cells.append(f"{_text(key, spread[key]['mean'])} ± {_text(key, spread[key]['std'])}")
            lines.append(_row(cells))
    if measured.notes:
        lines += ["", *(f"- {note}" for note in measured.notes)]
    return [*lines, "", *_class_lines(measured), ""]


def _class_lines(measured: HeadResult) -> list[str]:
    kinds = _BY_CLASS[measured.task.kind]
    titles = [f"{_CLASS_TITLES[kind]} | 95 % interval" for kind in kinds]
    counted = bool(measured.support)
    lines = [
        f"| {'class | examples' if counted else 'value'} | {' | '.join(titles)} |",
        "|---" * ((2 if counted else 1) + 2 * len(kinds)) + "|",
    ]
    for number, label in enumerate(measured.task.labels):
        cells = [label, str(measured.support[number])] if counted else [label]
        for kind in kinds:
            key = f"{kind}_{label}"
            value = measured.metrics[key]
            cells += [_text(kind, value), _span(key, measured.intervals, kind)]
        lines.append(_row(cells))
    return lines


def _published_lines(report: ProbeReport) -> list[str]:
    rows = published(report.dataset)
    columns = list(dict.fromkeys(column for row in rows for column in row.metrics))
    own = {measured.name: measured.metrics for measured in report.measured}
    if not any(name in own for name, _ in columns):  # one's own data, text banks, or other splits
        return []
    titles = [f"{name}: {_TITLES.get(metric, metric)}" for name, metric in columns]
    lines = [
        "",
        f"## Beside {SOURCE}",
        "",
        *[line for text in remarks(report.dataset) for line in (text, "")],
    ]
    lines += [f"| method | evaluation | {' | '.join(titles)} |", "|---" * (2 + len(columns)) + "|"]
    ours = [
        f"**{_text(metric, own[name][metric])}**" if name in own else "not measured"
        for name, metric in columns
    ]
    for row in rows:
        cells = [_text(column[1], row.metrics.get(column, float("nan"))) for column in columns]
        star = " (with sound or text)" if row.multimodal else ""
        lines.append(_row([row.method + star, row.evaluation, *cells]))
    lines.append(_row(["**this checkpoint**", "linear", *ours]))
    return lines


def _row(cells: Sequence[str]) -> str:
    """A row of a table; a label may hold what would end its cell."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _pictures(measured: HeadResult, dataset: str) -> dict[str, bytes]:
    """PNGs by what they show."""
    labels, title = measured.task.labels, f"{dataset}, {measured.name}"
    if measured.task.kind == "regression":
        drawn = regression_png(labels, measured.predictions, measured.targets, title)
        return {"regression": drawn}
    pictures = {}
    if measured.task.kind == "single_label" and len(labels) <= MOST_CLASSES_DRAWN:
        predictions = measured.predictions.argmax(axis=1)
        truth = np.asarray(measured.targets, np.int64)
        pictures["confusion"] = confusion_png(labels, predictions, truth, title)
    if "ece" in measured.metrics:
        kept = {"measured": measured.predictions, "before temperature scaling": measured.unscaled}
        curves = {
            name: confidences_of(values, measured.targets)
            for name, values in kept.items()
            if values is not None
        }
        error = f"calibration error {measured.metrics['ece']:.3f}"
        pictures["reliability"] = reliability_png(curves, f"{title}: {error}")
    return pictures


def _text(key: str, value: float) -> str:
    """A share as per cent, another metric with three places, nothing for what is not defined."""
    if np.isnan(value):
        return "n/a"
    if key == "pairs":
        return f"{value:.0f}"
    plain = key in _PLAIN or key.partition("_")[0] in ("r2", "mse", "pcc")
    return f"{value:.3f}" if plain else f"{100 * value:.2f} %"


def _span(key: str, intervals: Mapping[str, Interval], kind: str | None = None) -> str:
    if key not in intervals or np.isnan(intervals[key][0]):
        return "n/a"
    low, high = (_text(kind or key, bound).removesuffix(" %") for bound in intervals[key])
    return f"{low} to {high}"
