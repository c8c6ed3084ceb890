"""The plot of the ablation: accuracy by number of people, predictions of pairs, and the sweep of beta."""

from pathlib import Path
from typing import Any

from emotion_runtime.files import write_atomically
from emotion_train.plotting import (
    BLUE,
    GREEN,
    LIGHT_GREY,
    RED,
    YELLOW,
    new_figure,
    plot_intervals,
    style_axes,
    to_png,
)

CROWD_COLORS = {"one person": LIGHT_GREY, "two people": BLUE, "three or four": RED}
PAIR_COLORS = {"changed": BLUE, "own": GREEN, "other": YELLOW}
METHODS = (  # subject and bias, in the order of the plot
    ("none", False),
    ("saam", False),
    ("saam-rowwise", False),
    ("sap", False),
    ("shared", False),
    ("sap", True),
    ("shared", True),
)


def plot(path: Path, rows: list[dict[str, Any]], beta: float) -> None:
    """Write the plot of the rows that have been measured.

    Args:
        path: The PNG file.
        rows: Rows of ablation.json.
        beta: Beta of the loss whose methods are compared.
    """
    main = {
        (row["subject"], row["bias"]): row
        for row in rows
        if row["temporal"] == "transformer" and row["beta"] == beta
    }
    shown = [method for method in METHODS if method in main]
    names = [subject.replace("-", "\n") + ("\n+ bias" if bias else "") for subject, bias in shown]
    figure = new_figure(13, 3.9)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.5, 1.15, 1))
    style_axes(left, "Accuracy by number of people in the image, %")
    style_axes(middle, "Predictions for pairs of people, %")
    style_axes(right, "Several people: accuracy by beta, %")
    crowds = {name: [main[method]["crowds"][name]["accuracy"] for method in shown] for name in CROWD_COLORS}
    pairs = {name: [main[method]["pairs"][name] for method in shown] for name in PAIR_COLORS}
    for axes, series, colors in ((left, crowds, CROWD_COLORS), (middle, pairs, PAIR_COLORS)):
        for index, (name, values) in enumerate(series.items()):
            places = [place + 0.2 * (index - 1) for place in range(len(shown))]  # side by side
            plot_intervals(axes, places, _in_percent(values), colors[name], name)
        axes.set_xticks(range(len(shown)), names)
        axes.legend(frameon=False, fontsize=8)
    _plot_sweep(right, rows)
    write_atomically(path, to_png(figure))


def _in_percent(intervals: list[list[float]]) -> list[list[float]]:
    return [[100 * value for value in each] for each in intervals]


def _plot_sweep(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Plot the accuracy with several people over beta, as the paper's Fig. 6; 0 is InfoNCE."""
    sweep = sorted(
        (row["beta"], row["in_company"])
        for row in rows
        if (row["subject"], row["bias"], row["temporal"]) == ("sap", True, "transformer")
    )
    if sweep:
        plot_intervals(
            axes, range(len(sweep)), _in_percent([values for _, values in sweep]), BLUE, "sap + bias"
        )
        axes.set_xticks(range(len(sweep)), [f"{beta:g}" for beta, _ in sweep])
    axes.set_xlabel("beta")
