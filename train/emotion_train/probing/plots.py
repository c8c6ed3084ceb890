"""Plots of probe results: confusion matrix, reliability diagram, predictions against targets."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emotion_train.plotting import BLUE, GREY, INK, ORANGE, new_figure, style_axes, to_png
from emotion_train.probing.calibration import BINS, Confidences, reliability

_DASHED = (0, (4, 3))


def confusion_png(
    names: Sequence[str], predicted: NDArray[np.int64], labels: NDArray[np.int64], title: str
) -> bytes:
    """Draw a confusion matrix as PNG: true classes in rows, which sum to 100 %, predictions in columns.

    Args:
        names: C class names.
        predicted: (N,) class indices.
        labels: (N,) class indices.
        title: Printed above the matrix.
    """
    classes = len(names)
    counts = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    total = counts.sum(axis=1, keepdims=True)
    fractions = counts / np.maximum(total, 1)
    side = 2.4 + 0.62 * classes
    figure = new_figure(side + 0.6, side)
    axes = figure.add_subplot()
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(classes, classes):
        fraction = fractions[row, column]
        if counts[row, column]:
            axes.text(
                column,
                row,
                f"{100 * fraction:.0f}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if fraction > 0.55 else INK,
                fontweight="bold" if row == column else "normal",
            )
    axes.set_xticks(range(classes), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(classes), [f"{name}  ({n})" for name, n in zip(names, total[:, 0], strict=True)])
    axes.set(xlabel="prediction", ylabel="label (samples)")
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
    bar.set_label("fraction of the samples with this label")
    bar.outline.set_visible(False)
    return to_png(figure)


def reliability_png(curves: dict[str, Confidences], title: str) -> bytes:
    """Draw a reliability diagram as PNG: accuracy over confidence, and a histogram of the confidences below.

    Args:
        curves: Predictions by the name of their curve, at most two.
        title: Printed above the diagram.
    """
    figure = new_figure(5.0, 6.2)
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=_DASHED, label="perfect")
    edges = np.linspace(0, 1, BINS + 1)
    for (name, confidences), color in zip(curves.items(), (BLUE, ORANGE)[: len(curves)], strict=True):
        count, confidence, accuracy = reliability(confidences)
        filled = count > 0
        size = 18 + 120 * count[filled] / count.max()
        upper.plot(confidence[filled], accuracy[filled], color=color, linewidth=1.4, alpha=0.8)
        upper.scatter(
            confidence[filled], accuracy[filled], s=size, color=color, alpha=0.85, label=name, zorder=3
        )
        lower.stairs(count / count.sum(), edges, color=color, fill=color == BLUE, alpha=0.55, linewidth=1.4)
    for axes in (upper, lower):
        style_axes(axes)
    upper.set(ylabel="fraction that was correct", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    upper.legend(frameon=False, loc="upper left", fontsize=9, markerscale=0.6)
    upper.set_title(title, loc="left", fontsize=11, color=INK)
    lower.set(xlabel="predicted probability", ylabel="fraction of all")
    return to_png(figure)


def regression_png(
    names: Sequence[str], predicted: NDArray[np.float64], targets: NDArray[np.generic], title: str
) -> bytes:
    """Draw predictions against targets as PNG, one panel per value, with the line of perfect predictions.

    Args:
        names: V names of the values.
        predicted: (N, V).
        targets: (N, V).
        title: Printed above all panels.
    """
    figure = new_figure(3.6 * len(names), 3.8, title)
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for index, (axes, name) in enumerate(zip(panels, names, strict=True)):
        truth = targets[:, index].astype(np.float64)
        low, high = float(truth.min()), float(truth.max())
        axes.plot([low, high], [low, high], color=GREY, linewidth=1, linestyle=_DASHED)
        axes.scatter(truth, predicted[:, index], s=9, color=BLUE, alpha=0.35, linewidths=0)
        style_axes(axes)
        axes.set(title=name, xlabel="annotated", ylabel="predicted")
    return to_png(figure)
