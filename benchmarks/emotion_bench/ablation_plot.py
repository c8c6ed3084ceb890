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
    names = [subject + ("\n+ bias" if bias else "") for subject, bias in shown]
    figure = new_figure(13, 3.9)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.5, 1.15, 1))
    style_axes(left, "Accuracy by number of people in the image, %")
    style_axes(middle, "Predictions for pairs of people, %")
    style_axes(right, "Several people: accuracy by beta, %")
    for offset, (crowd, color) in enumerate(CROWD_COLORS.items()):
        values = [_in_percent(main[method]["crowds"][crowd]["accuracy"]) for method in shown]
        plot_intervals(left, _positions(shown, offset), values, color, crowd)
    for offset, (name, color) in enumerate(PAIR_COLORS.items()):
        values = [_in_percent(main[method]["pairs"][name]) for method in shown]
        plot_intervals(middle, _positions(shown, offset), values, color, name)
    for axes in (left, middle):
        axes.set_xticks(range(len(shown)), names)
        axes.legend(frameon=False, fontsize=8)
    _plot_sweep(right, rows)
    write_atomically(path, to_png(figure))


def _positions(shown: list[tuple[str, bool]], offset: int) -> list[float]:
    """Place the three series of a panel side by side."""
    return [index + 0.2 * (offset - 1) for index in range(len(shown))]


def _in_percent(values: list[float]) -> list[float]:
    return [100 * value for value in values]


def _plot_sweep(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Plot the accuracy with several people over beta, as the paper's Fig. 6; 0 is InfoNCE."""
    sweep = sorted(
        (row["beta"], _in_percent(row["in_company"]))
        for row in rows
        if (row["subject"], row["bias"], row["temporal"]) == ("sap", True, "transformer")
    )
    if sweep:
        plot_intervals(axes, range(len(sweep)), [values for _, values in sweep], BLUE, "sap + bias")
        axes.set_xticks(range(len(sweep)), [f"{beta:g}" for beta, _ in sweep])
    axes.set_xlabel("beta")
