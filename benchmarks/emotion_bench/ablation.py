"""Table, comparisons and plot of the ablation, from the answers that `bench_ablation.py` recorded."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_bench.machine import card
from emotion_bench.report import markdown, write_json, write_text
from emotion_train.probing.bootstrap import Weights, cluster_numbers, intervals, point_figures
from emotion_train.probing.metrics import weighted_mean

SEED = 2022
CROWDED = ("two people", "three or four")  # where a model that cannot tell who is meant must fail
MARGIN = 0.01  # "within one point"

_PAGE = """# Ablation at small scale

    python benchmarks/bench_ablation.py --data ../shared --out runs/ablation \\
        --steps {steps} --warm-steps {warm_steps}

Accuracy, in percent, on seven emotions of unseen FER2013 faces in drawn scenes seen through one window,
by the number of people in it; 95 % bootstrap intervals over scenes, of the mean over seeds. changed: share of
the pairs of people of different emotions whose two answers differ (0 %: the address was not learned). own,
other: answers that name the subject's emotion, and the neighbour's. The window follows the heads, so a single
person's face fills it, at a scale that these short runs have seen least: "one person" is no ceiling.

{table}

Differences of accuracy in company (two to four people), in points, paired by scene:

{verdicts}

![Accuracy by number of people, answers that follow the subject, sweep of beta](ablation.png)
"""

Method = tuple[str, bool, float, str]  # subject, bias, beta, temporal encoder
Interval = tuple[float, float, float]  # figure, and the ends of its 95 % interval


@dataclass(frozen=True)
class Answers:
    """One crowd's test persons under one method: right (N,), the mean over seeds; of pairs the same."""

    right: NDArray[np.float64]
    labels: NDArray[np.int64]
    scenes: NDArray[np.int64]
    by_seed: tuple[float, ...]
    balanced: float
    pairs: dict[str, NDArray[np.float64]]


def load_answers(runs: Path) -> dict[Method, dict[str, Answers]]:
    """By method and crowd, all seeds that are measured together."""
    grouped: dict[Method, list[dict[str, Any]]] = {}
    for path in sorted(runs.glob("*/measured.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        row = entry["row"]
        method = (row["subject"], row["bias"], row["beta"], row["temporal"])
        grouped.setdefault(method, []).append(entry["crowds"])
    return {
        method: {name: _answers([crowds[name] for crowds in seeds]) for name in seeds[0]}
        for method, seeds in grouped.items()
    }


def _answers(seeds: Sequence[dict[str, list[int]]]) -> Answers:
    """The test scenes are the same for every seed and method, so their persons can be compared one by one."""
    labels, scenes = (np.array(seeds[0][key], np.int64) for key in ("labels", "scenes"))
    given = np.array([seed["answers"] for seed in seeds], np.int64)  # (seeds, N)
    right = given == labels
    recalls = [right[:, labels == c].mean() for c in np.unique(labels)]
    return Answers(
        right.mean(axis=0),
        labels,
        scenes,
        tuple(right.mean(axis=1).tolist()),
        float(np.mean(recalls)),
        _pairs(given, labels, scenes),
    )


def _pairs(
    given: NDArray[np.int64], labels: NDArray[np.int64], scenes: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Of scenes with two people of different emotions: does the answer follow the subject? (pairs,) each."""
    pairs = np.array(
        [
            rows
            for rows in (np.flatnonzero(scenes == scene) for scene in np.unique(scenes))
            if len(rows) == 2 and labels[rows[0]] != labels[rows[1]]
        ],
        np.int64,
    ).reshape(-1, 2)
    first, second = given[:, pairs[:, 0]], given[:, pairs[:, 1]]
    a, b = labels[pairs[:, 0]], labels[pairs[:, 1]]
    figures = {
        "changed": first != second,
        "own": ((first == a).astype(float) + (second == b)) / 2,
        "other": ((first == b).astype(float) + (second == a)) / 2,
    }
    return {name: values.mean(axis=0) for name, values in figures.items()}


def interval(values: NDArray[np.float64], scenes: NDArray[np.int64]) -> Interval:
    """The mean, and its bootstrap interval over scenes."""

    def scorer(weights: Weights) -> dict[str, Weights]:
        return {"mean": weighted_mean(values, weights)}

    low, high = intervals(scorer, cluster_numbers(scenes), seed=SEED)["mean"]
    return point_figures(scorer, len(values))["mean"], low, high


def crowded(answers: dict[str, Answers]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Right answers in company, with scene numbers that differ between the crowds."""
    right = np.concatenate([answers[name].right for name in CROWDED])
    scenes = np.concatenate([answers[name].scenes + 100_000 * n for n, name in enumerate(CROWDED)])
    return right, scenes


def comparisons(found: dict[Method, dict[str, Answers]], beta: float) -> list[dict[str, Any]]:
    """What the issue of this table is: differences in crowds, in paired scenes, and whether they hold."""
    full = "transformer"
    sap, shared, none = (("sap", True), ("shared", True), ("none", False))

    def both(one: Sequence[Method], other: Sequence[Method]) -> Interval | None:
        pairs = [(a, b) for a, b in zip(one, other, strict=True) if a in found and b in found]
        if not pairs:
            return None
        gaps = [crowded(found[a])[0] - crowded(found[b])[0] for a, b in pairs]
        return interval(np.mean(gaps, axis=0), crowded(found[pairs[0][0]])[1])

    ways = [none, ("saam", False), sap, shared]
    wide: Callable[[Interval], bool] = lambda gap: gap[1] > 0.05  # noqa: E731 - five points at the least
    questions = [
        ("sap with bias beats none by a wide margin", [(*sap, beta, full)], [(*none, beta, full)], wide),
        (
            "shared with bias beats none by a wide margin",
            [(*shared, beta, full)],
            [(*none, beta, full)],
            wide,
        ),
        (
            "shared is within 1 point of sap, both with bias",
            [(*shared, beta, full)],
            [(*sap, beta, full)],
            lambda gap: gap[0] >= -MARGIN,
        ),
        ("the bias helps sap", [(*sap, beta, full)], [("sap", False, beta, full)], lambda gap: gap[1] > 0),
        (
            "the bias helps shared",
            [(*shared, beta, full)],
            [("shared", False, beta, full)],
            lambda gap: gap[1] > 0,
        ),
        ("saam beats none", [("saam", False, beta, full)], [(*none, beta, full)], lambda gap: gap[1] > 0),
        (
            "SNCE is no worse than InfoNCE (over all ways)",
            [(*way, beta, t) for way in ways for t in (full, "mean")],
            [(*way, 0.0, t) for way in ways for t in (full, "mean")],
            lambda gap: gap[0] >= 0,
        ),
        (
            "the temporal transformer beats the mean (over all ways)",
            [(*way, b, full) for way in ways for b in (0.0, beta)],
            [(*way, b, "mean") for way in ways for b in (0.0, beta)],
            lambda gap: gap[1] > 0,
        ),
    ]
    rows = []
    for claim, one, other, holds in questions:
        gap = both(one, other)
        if gap is not None:
            rows.append({"claim": claim, "difference": gap, "holds": bool(holds(gap))})
    return rows


def write_results(runs: Path, results: Path, *, settings: dict[str, Any], beta: float) -> None:
    """ablation.json, ablation.md and ablation.png of what is measured so far."""
    found = load_answers(runs)
    rows = [_row(method, answers) for method, answers in sorted(found.items(), key=_order)]
    compared = comparisons(found, beta)
    write_json(
        results / "ablation.json",
        {"machine": card(), "settings": settings, "rows": rows, "comparisons": compared},
    )
    write_text(results / "ablation.md", _page(rows, compared, settings))
    from emotion_bench.ablation_plot import plot  # noqa: PLC0415  (matplotlib is slow to import)

    plot(results / "ablation.png", rows, beta)


def _order(item: tuple[Method, Any]) -> tuple[Any, ...]:
    (subject, bias, beta, temporal), _ = item
    return (temporal != "transformer", ["none", "saam", "sap", "shared"].index(subject), bias, beta)


def _row(method: Method, answers: dict[str, Answers]) -> dict[str, Any]:
    subject, bias, beta, temporal = method
    pairs = answers["two people"].pairs
    numbers = np.arange(len(pairs["changed"]))
    return {
        "subject": subject,
        "bias": bias,
        "beta": beta,
        "temporal": temporal,
        "seeds": len(answers["one person"].by_seed),
        "crowds": {
            name: {
                "accuracy": interval(crowd.right, crowd.scenes),
                "balanced_accuracy": crowd.balanced,
                "by_seed": crowd.by_seed,
                "persons": len(crowd.labels),
            }
            for name, crowd in answers.items()
        },
        "in_company": interval(*crowded(answers)),
        "pairs": {name: interval(values, numbers) for name, values in pairs.items()}
        | {"count": len(numbers)},
    }


def _page(rows: list[dict[str, Any]], compared: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    header = [
        "who is meant",
        "loss",
        "time",
        "seeds",
        "one person",
        "two people",
        "three or four",
        "balanced, two",
        "changed",
        "own",
        "other",
    ]
    table = [
        [
            row["subject"] + (" + bias" if row["bias"] else ""),
            "InfoNCE" if row["beta"] == 0 else f"SNCE, beta {row['beta']:g}",
            row["temporal"],
            str(row["seeds"]),
            *(_percent(crowd["accuracy"]) for crowd in row["crowds"].values()),
            f"{row['crowds']['two people']['balanced_accuracy']:.1%}",
            *(f"{row['pairs'][name][0]:.1%}" for name in ("changed", "own", "other")),
        ]
        for row in rows
    ]
    verdicts = [
        [entry["claim"], _points(entry["difference"]), "yes" if entry["holds"] else "**no**"]
        for entry in compared
    ]
    return _PAGE.format(
        steps=settings["steps"],
        warm_steps=settings["warm_steps"],
        table=markdown(header, table),
        verdicts=markdown(["claim", "difference (95 %)", "holds"], verdicts),
    )


def _percent(figure: Interval) -> str:
    return f"{100 * figure[0]:.1f} ({100 * figure[1]:.1f}-{100 * figure[2]:.1f})"


def _points(difference: Interval) -> str:
    gap, low, high = (100 * value for value in difference)
    return f"{gap:+.1f} ({low:+.1f} to {high:+.1f})"
