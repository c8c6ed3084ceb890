"""Table, comparisons and plot of the ablation, from the answers that `bench_ablation.py` recorded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_bench.ablation_page import Interval, page
from emotion_bench.machine import card
from emotion_bench.report import write_json
from emotion_runtime.files import write_atomically
from emotion_train.probing.bootstrap import Weights, bootstrap_intervals, cluster_indices, point_metrics
from emotion_train.probing.metrics import weighted_mean

SEED = 2022
CROWDED = ("two people", "three or four")  # where a model that cannot tell who is meant must fail

Method = tuple[str, bool, float, str]  # subject, bias, beta, temporal encoder


@dataclass(frozen=True)
class Answers:
    """One crowd's test persons under one method, those in scenes of pairwise different emotions.

    right: by seed, (N,). labels, scenes: (N,). pairs: figures of pairs of people, (pairs,), means over seeds.
    """

    right: dict[int, NDArray[np.float64]]
    labels: NDArray[np.int64]
    scenes: NDArray[np.int64]
    pairs: dict[str, NDArray[np.float64]]

    def mean(self, seeds: Sequence[int] | None = None) -> NDArray[np.float64]:
        """Share of the seeds (None: all) by which each person is told right, (N,)."""
        chosen = [self.right[seed] for seed in (self.right if seeds is None else seeds)]
        return np.asarray(np.mean(chosen, axis=0))

    @property
    def balanced(self) -> float:
        """Mean recall of the classes."""
        mean = self.mean()
        return float(np.mean([mean[self.labels == c].mean() for c in np.unique(self.labels)]))


def load_answers(runs: Path) -> dict[Method, dict[str, Answers]]:
    """By method and crowd, all seeds that are measured together."""
    grouped: dict[Method, dict[int, dict[str, Any]]] = {}
    for path in sorted(runs.glob("*/measured.json")):
        entry = json.loads(path.read_text(encoding="utf-8"))
        row = entry["row"]
        method = (row["subject"], row["bias"], row["beta"], row["temporal"])
        grouped.setdefault(method, {})[row["seed"]] = entry["crowds"]
    return {
        method: {
            name: _answers({seed: crowds[name] for seed, crowds in seeds.items()})
            for name in next(iter(seeds.values()))
        }
        for method, seeds in grouped.items()
    }


def _answers(seeds: dict[int, dict[str, list[int]]]) -> Answers:
    """The test scenes are the same for every seed and method, so their persons can be compared one by one."""
    first = next(iter(seeds.values()))
    labels, scenes = (np.array(first[key], np.int64) for key in ("labels", "scenes"))
    rows_of = {scene: np.flatnonzero(scenes == scene) for scene in np.unique(scenes)}
    clear = [rows for rows in rows_of.values() if len(set(labels[rows])) == len(rows)]
    kept = np.sort(np.concatenate(clear))
    given = {seed: np.array(answers["answers"], np.int64) for seed, answers in seeds.items()}
    return Answers(
        {seed: (answers == labels)[kept].astype(float) for seed, answers in given.items()},
        labels[kept],
        scenes[kept],
        _pairs(np.array(list(given.values())), labels, [rows for rows in clear if len(rows) == 2]),
    )


def _pairs(
    given: NDArray[np.int64], labels: NDArray[np.int64], rows: list[NDArray[np.intp]]
) -> dict[str, NDArray[np.float64]]:
    """Does the answer follow the subject? given: (seeds, N). rows: of the two people of each scene."""
    pairs = np.array(rows, np.int64).reshape(-1, 2)
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

    low, high = bootstrap_intervals(scorer, cluster_indices(scenes), seed=SEED)["mean"]
    return point_metrics(scorer, len(values))["mean"], low, high


def crowded(
    answers: dict[str, Answers], seeds: Sequence[int] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Right answers in company, with scene numbers that differ between the crowds."""
    right = np.concatenate([answers[name].mean(seeds) for name in CROWDED])
    scenes = np.concatenate([answers[name].scenes + 100_000 * n for n, name in enumerate(CROWDED)])
    return right, scenes


@dataclass(frozen=True)
class Claim:
    """Methods that are compared one by one, and the difference in points that the claim is of.

    The verdict is "yes" when the whole interval lies at or above `least`, "no" when all of it lies below.
    """

    words: str
    one: tuple[Method, ...]
    other: tuple[Method, ...]
    least: float = 0.0


def claims(beta: float) -> list[Claim]:
    """What the paper and the issue of this table expect."""
    full = "transformer"
    sap, shared, none, saam = ("sap", True), ("shared", True), ("none", False), ("saam", False)
    bare = {way: (*way, beta, full) for way in (none, saam, sap, shared, ("sap", False), ("shared", False))}
    told = (sap, shared)  # the ways that learn at this scale
    return [
        Claim("sap with bias beats none by 5 points and more", (bare[sap],), (bare[none],), 0.05),
        Claim("shared with bias beats none by 5 points and more", (bare[shared],), (bare[none],), 0.05),
        Claim("shared is within 1 point of sap, both with bias", (bare[shared],), (bare[sap],), -0.01),
        Claim("the bias helps sap", (bare[sap],), (bare["sap", False],)),
        Claim("the bias helps shared", (bare[shared],), (bare["shared", False],)),
        Claim("saam is better than none", (bare[saam],), (bare[none],)),
        Claim("sap without bias is better than none", (bare["sap", False],), (bare[none],)),
        Claim(
            "SNCE is no worse than InfoNCE (ways with bias)",
            tuple((*way, beta, time) for way in told for time in (full, "mean")),
            tuple((*way, 0.0, time) for way in told for time in (full, "mean")),
        ),
        Claim(
            "the temporal transformer is better than the mean (ways with bias)",
            tuple((*way, loss, full) for way in told for loss in (0.0, beta)),
            tuple((*way, loss, "mean") for way in told for loss in (0.0, beta)),
        ),
    ]


def comparisons(found: dict[Method, dict[str, Answers]], beta: float) -> list[dict[str, Any]]:
    """Differences in company, in paired scenes and equal seeds, and what they say of each claim."""
    rows = []
    for claim in claims(beta):
        pairs = [(a, b) for a, b in zip(claim.one, claim.other, strict=True) if a in found and b in found]
        if not pairs:
            continue
        seeds = sorted(set.intersection(*(_seeds(found[m]) for pair in pairs for m in pair)))
        by_seed = [
            np.mean([crowded(found[a], [s])[0] - crowded(found[b], [s])[0] for a, b in pairs], axis=0)
            for s in seeds
        ]
        gap = interval(np.mean(by_seed, axis=0), crowded(found[pairs[0][0]])[1])
        verdict = "yes" if gap[1] >= claim.least else "no" if gap[2] < claim.least else "undecided"
        rows.append(
            {
                "claim": claim.words,
                "difference": gap,
                "by_seed": [float(values.mean()) for values in by_seed],
                "verdict": verdict,
            }
        )
    return rows


def _seeds(answers: dict[str, Answers]) -> set[int]:
    return set(next(iter(answers.values())).right)


def shifted_share(runs: Path) -> float | None:
    """Mean A of all trained rows with subject-aware masking; None without one."""
    entries = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(runs.glob("*/measured.json"))]
    shares = [share for entry in entries for share in entry.get("shift", [])]
    return float(np.mean(shares)) if shares else None


def write_results(runs: Path, results: Path, *, settings: dict[str, Any], beta: float) -> None:
    """ablation.json, ablation.md and ablation.png of what is measured so far."""
    found = load_answers(runs)
    rows = [_row(method, answers) for method, answers in sorted(found.items(), key=_order)]
    compared = comparisons(found, beta)
    write_json(
        results / "ablation.json",
        {
            "machine": card(),
            "settings": settings,
            "rows": rows,
            "comparisons": compared,
            "shifted_share": shifted_share(runs),
        },
    )
    write_atomically(results / "ablation.md", page(rows, compared, settings, shifted_share(runs)))
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
        "seeds": len(_seeds(answers)),
        "crowds": {
            name: {
                "accuracy": interval(crowd.mean(), crowd.scenes),
                "balanced_accuracy": crowd.balanced,
                "by_seed": [float(crowd.mean([seed]).mean()) for seed in crowd.right],
                "persons": len(crowd.labels),
            }
            for name, crowd in answers.items()
        },
        "in_company": interval(*crowded(answers)),
        "pairs": {name: interval(values, numbers) for name, values in pairs.items()}
        | {"count": len(numbers)},
    }
