"""The picture of the ablation: who is found in company, do answers follow the subject, what beta does."""

from pathlib import Path
from typing import Any

import numpy as np

COLOURS = {"one person": "#9aa5b1", "two people": "#2a6f97", "three or four": "#d1495b"}
WAYS = (("none", False), ("saam", False), ("sap", False), ("shared", False), ("sap", True), ("shared", True))


def plot(path: Path, rows: list[dict[str, Any]], beta: float) -> None:
    """PNG of the rows that there are."""
    import matplotlib as mpl  # noqa: PLC0415  (slow to import)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    main = {
        (row["subject"], row["bias"]): row
        for row in rows
        if row["temporal"] == "transformer" and row["beta"] == beta
    }
    shown = [way for way in WAYS if way in main]
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.9), width_ratios=(1.5, 1.15, 1))
    names = [subject + ("\n+ bias" if bias else "") for subject, bias in shown]
    for offset, (crowd, colour) in enumerate(COLOURS.items()):
        points = np.array([main[way]["crowds"][crowd]["accuracy"] for way in shown]) * 100
        _points(left, np.arange(len(shown)) + 0.2 * (offset - 1), points, colour, crowd)
    left.set(title="Accuracy by people in the picture, %", xticks=range(len(shown)), xticklabels=names)
    left.legend(frameon=False, fontsize=8, loc="best")
    for offset, (name, colour) in enumerate(
        (("changed", "#2a6f97"), ("own", "#66a182"), ("other", "#edae49"))
    ):
        points = np.array([main[way]["pairs"][name] for way in shown]) * 100
        _points(middle, np.arange(len(shown)) + 0.2 * (offset - 1), points, colour, name)
    middle.set(title="Pairs of people: answers, %", xticks=range(len(shown)), xticklabels=names)
    middle.legend(frameon=False, fontsize=8)
    _sweep(right, rows)
    for axis in (left, middle, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.25)
        axis.title.set_fontsize(10)
        axis.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _points(axis: Any, x: Any, points: Any, colour: str, label: str) -> None:
    """Figures (n, 3) with the ends of their intervals."""
    middle, low, high = points.T
    axis.errorbar(
        x, middle, [middle - low, high - middle], fmt="o", ms=5, color=colour, capsize=2, label=label
    )


def _sweep(axis: Any, rows: list[dict[str, Any]]) -> None:
    """Accuracy in company over beta, as the paper's Fig. 6; 0 is InfoNCE."""
    sweep = sorted(
        (row["beta"], *row["in_company"])
        for row in rows
        if (row["subject"], row["bias"], row["temporal"]) == ("sap", True, "transformer")
    )
    if sweep:
        betas, *points = np.array(sweep).T
        _points(axis, np.arange(len(betas)), np.array(points).T * 100, "#2a6f97", "sap + bias")
        axis.set_xticks(range(len(betas)), [f"{b:g}" for b in betas])
    axis.set(title="In company, by beta of the loss, %", xlabel="beta")
