"""Table, comparisons and plot of the ablation, from the predictions that `bench_ablation.py` recorded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_bench.ablation_page import SUBJECTS, Interval, page, plot
from emotion_bench.machine import card
from emotion_bench.report import write_json
from emotion_runtime.files import write_atomically
from emotion_train.probing.bootstrap import bootstrap_intervals, cluster_indices
from emotion_train.probing.metrics import weighted_mean
from emotion_train.probing.scene_probe import swap_parts

SEED = 2022
CROWDED = ("two people", "three or four")  # where a model that does not know the subject must fail

Method = tuple[str, bool, float, str]  # subject, bias, beta, temporal encoder


@dataclass(frozen=True)
class CrowdResults:
    """Results of one method on one size of crowd, for people in scenes of pairwise different emotions.

    Attributes:
        right: Whether each prediction is right, (N,) by seed.
        labels: True classes, (N,).
        scenes: The scene of each person, (N,).
        pairs: Metrics of pairs of people, (pairs,) each, means over seeds.
    """

    right: dict[int, NDArray[np.float64]]
    labels: NDArray[np.int64]
    scenes: NDArray[np.int64]
    pairs: dict[str, NDArray[np.float64]]

    def mean(self, seeds: Sequence[int] | None = None) -> NDArray[np.float64]:
        """Return the fraction of the seeds (None: all) with a right prediction, per person (N,)."""
        return np.asarray(np.mean([self.right[seed] for seed in seeds or self.right], axis=0))

    @property
    def balanced(self) -> float:
        """Balanced accuracy: the mean recall of the classes."""
        return float(np.mean([self.mean()[self.labels == c].mean() for c in np.unique(self.labels)]))


def load_results(runs: Path) -> dict[Method, dict[str, CrowdResults]]:
    """Read all results by method and size of crowd, the seeds of a method together."""
    grouped: dict[Method, dict[int, dict[str, Any]]] = {}
    for entry in _entries(runs):
        row = entry["row"]
        method = (row["subject"], row["bias"], row["beta"], row["temporal"])
        grouped.setdefault(method, {})[row["seed"]] = entry["crowds"]
    return {
        method: {
            name: _crowd_results({seed: crowds[name] for seed, crowds in seeds.items()})
            for name in next(iter(seeds.values()))
        }
        for method, seeds in grouped.items()
    }


def _entries(runs: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(runs.glob("*/measured.json"))]


def _crowd_results(seeds: dict[int, dict[str, list[int]]]) -> CrowdResults:
    """Select the scenes of pairwise different emotions, which are the same for every seed and method."""
    first = next(iter(seeds.values()))
    labels, scenes = (np.array(first[key], np.int64) for key in ("labels", "scenes"))
    rows_of = {scene: np.flatnonzero(scenes == scene) for scene in np.unique(scenes)}
    clear = [rows for rows in rows_of.values() if len(set(labels[rows])) == len(rows)]
    kept = np.sort(np.concatenate(clear))
    given = {seed: np.array(crowd["answers"], np.int64) for seed, crowd in seeds.items()}
    one, other = np.array([rows for rows in clear if len(rows) == 2], np.int64).reshape(-1, 2).T
    everyone = np.array(list(given.values()))  # (seeds, N)
    parts = swap_parts(everyone[:, one], everyone[:, other], labels[one], labels[other])
    return CrowdResults(
        {seed: (predicted == labels)[kept].astype(float) for seed, predicted in given.items()},
        labels[kept],
        scenes[kept],
        {name: parts[name].mean(axis=0) for name in ("changed", "own", "other")},
    )


def interval(values: NDArray[np.float64], scenes: NDArray[np.int64]) -> Interval:
    """Return the mean and its bootstrap interval over scenes."""
    clusters = cluster_indices(scenes)
    ends = bootstrap_intervals(lambda rows: {"mean": weighted_mean(values, rows)}, clusters, seed=SEED)
    return float(values.mean()), *ends["mean"]


def crowded(
    results: dict[str, CrowdResults], seeds: Sequence[int] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return right predictions in scenes of several people, with scene ids unique over the crowds."""
    right = np.concatenate([results[name].mean(seeds) for name in CROWDED])
    scenes = np.concatenate([results[name].scenes + 100_000 * n for n, name in enumerate(CROWDED)])
    return right, scenes


def expectations(beta: float) -> list[tuple[str, list[tuple[Method, Method]], float]]:
    """Return what the paper and this project expect of methods whose loss has this beta.

    Returns:
        What is expected, pairs of methods, and by how much the first of a pair is better at least.
    """
    sap, shared, none = ("sap", True), ("shared", True), ("none", False)  # of the methods, two learn here
    one_pair = (
        ("sap with bias beats none by 5 points and more", sap, none, 0.05),
        ("shared with bias beats none by 5 points and more", shared, none, 0.05),
        ("shared is within 1 point of sap, both with bias", shared, sap, -0.01),
        ("the bias helps sap", sap, ("sap", False), 0.0),
        ("the bias helps shared", shared, ("shared", False), 0.0),
        ("saam is better than none", ("saam", False), none, 0.0),
        ("saam-rowwise is better than none", ("saam-rowwise", False), none, 0.0),
        ("sap without bias is better than none", ("sap", False), none, 0.0),
    )
    full = "transformer"
    losses = [((*way, beta, t), (*way, 0.0, t)) for way in (sap, shared) for t in (full, "mean")]
    times = [((*way, loss, full), (*way, loss, "mean")) for way in (sap, shared) for loss in (0.0, beta)]
    return [
        *((words, [((*a, beta, full), (*b, beta, full))], least) for words, a, b, least in one_pair),
        ("SNCE is no worse than InfoNCE (methods with bias)", losses, 0.0),
        ("the temporal transformer is better than the mean (methods with bias)", times, 0.0),
    ]


def comparisons(found: dict[Method, dict[str, CrowdResults]], beta: float) -> list[dict[str, Any]]:
    """Compare methods in scenes of several people, paired by scene and seed, for each expectation.

    It holds ("yes") when the whole interval of the difference is at or above the least one, and does not
    ("no") when the whole interval is below.
    """
    rows = []
    for words, expected, least in expectations(beta):
        pairs = [(a, b) for a, b in expected if a in found and b in found]
        trained = [set(found[method][CROWDED[0]].right) for pair in pairs for method in pair]
        seeds = sorted(set.intersection(*trained)) if trained else []
        if not seeds:
            continue
        by_seed = [
            np.mean([crowded(found[a], [s])[0] - crowded(found[b], [s])[0] for a, b in pairs], axis=0)
            for s in seeds
        ]
        gap = interval(np.mean(by_seed, axis=0), crowded(found[pairs[0][0]])[1])
        holds = "yes" if gap[1] >= least else "no" if gap[2] < least else "undecided"
        each = [float(values.mean()) for values in by_seed]
        rows.append({"expectation": words, "difference": gap, "by_seed": each, "holds": holds})
    return rows


def write_results(runs: Path, results: Path, *, settings: dict[str, Any], beta: float) -> None:
    """Write ablation.json, ablation.md and ablation.png of what has been measured so far."""
    found = load_results(runs)
    order = sorted(found, key=lambda m: (m[3] != "transformer", SUBJECTS.index(m[0]), m[1], m[2]))
    # A of all trained rows with subject-aware attention masking.
    shifts = [shift for entry in _entries(runs) for shift in entry.get("shift", [])]
    result: dict[str, Any] = {
        "machine": card(),
        "settings": settings,
        "rows": [_row(method, found[method]) for method in order],
        "comparisons": comparisons(found, beta),
        "mean_shift": float(np.mean(shifts)) if shifts else None,
    }
    write_json(results / "ablation.json", result)
    write_atomically(results / "ablation.md", page(result))
    plot(results / "ablation.png", result["rows"], beta)


def _row(method: Method, results: dict[str, CrowdResults]) -> dict[str, Any]:
    pairs = results["two people"].pairs
    numbers = np.arange(len(pairs["changed"]))
    return {
        **dict(zip(("subject", "bias", "beta", "temporal"), method, strict=True)),
        "seeds": len(results[CROWDED[0]].right),
        "crowds": {
            name: {
                "accuracy": interval(crowd.mean(), crowd.scenes),
                "balanced_accuracy": crowd.balanced,
                "by_seed": [float(crowd.mean([seed]).mean()) for seed in crowd.right],
                "persons": len(crowd.labels),
            }
            for name, crowd in results.items()
        },
        "in_company": interval(*crowded(results)),
        "pairs": {name: interval(values, numbers) for name, values in pairs.items()}
        | {"count": len(numbers)},
    }
