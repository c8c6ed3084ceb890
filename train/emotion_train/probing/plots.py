"""Pictures of what was measured: who is taken for whom, and what a probability is worth."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from emotion_train.probing.calibration import BINS, Claims, reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, BLUE, ORANGE, GREY = "#1b2a38", "#2a6f97", "#e07a3f", "#8a949e"


def confusion_png(
    names: Sequence[str], predicted: NDArray[np.int64], labels: NDArray[np.int64], title: str
) -> bytes:
    """Rows: true classes, each summing to 100 %; columns: answers. Numbers are shares of the row."""
    classes = len(names)
    counts = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
    total = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(total, 1)
    side = 2.4 + 0.62 * classes
    figure = _figure(side + 0.6, side)
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(classes, classes):
        share = shares[row, column]
        if counts[row, column]:
            axes.text(
                column,
                row,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if share > 0.55 else INK,
                fontweight="bold" if row == column else "normal",
            )
    axes.set_xticks(range(classes), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(classes), [f"{name}  ({n})" for name, n in zip(names, total[:, 0], strict=True)])
    axes.set(xlabel="answer", ylabel="label (samples)")
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(picture, ax=axes, fraction=0.045, pad=0.03)
    bar.set_label("share of the label's samples")
    bar.outline.set_visible(False)
    return _png(figure)


def reliability_png(curves: dict[str, Claims], title: str) -> bytes:
    """Confidence against the share that came true, above the share of the claims that lie in each of 15 bins.

    curves: at most two.
    """
    figure = _figure(5.0, 6.2)
    upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="perfect")
    edges = np.linspace(0, 1, BINS + 1)
    for (name, claims), color in zip(curves.items(), (BLUE, ORANGE)[: len(curves)], strict=True):
        count, confidence, truth = reliability(claims)
        held = count > 0
        size = 18 + 120 * count[held] / count.max()
        upper.plot(confidence[held], truth[held], color=color, linewidth=1.4, alpha=0.8)
        upper.scatter(confidence[held], truth[held], s=size, color=color, alpha=0.85, label=name, zorder=3)
        share = count / count.sum()
        lower.stairs(share, edges, color=color, fill=color == BLUE, alpha=0.55, linewidth=1.4)
    upper.set(ylabel="share that came true", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    upper.legend(frameon=False, loc="upper left", fontsize=9, markerscale=0.6)
    upper.set_title(title, loc="left", fontsize=11, color=INK)
    lower.set(xlabel="probability given", ylabel="share of all")
    for axes in (upper, lower):
        _plain(axes)
    return _png(figure)


def regression_png(
    names: Sequence[str], predicted: NDArray[np.float64], targets: NDArray[np.generic], title: str
) -> bytes:
    """Predictions against targets of each value, with the line on which both are the same."""
    figure = _figure(3.6 * len(names), 3.8)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11, color=INK)
    for number, (axes, name) in enumerate(
        zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True)
    ):
        truth = targets[:, number].astype(np.float64)
        low, high = float(truth.min()), float(truth.max())
        axes.plot([low, high], [low, high], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        axes.scatter(truth, predicted[:, number], s=9, color=BLUE, alpha=0.35, linewidths=0)
        axes.set(title=name, xlabel="annotated", ylabel="predicted")
        _plain(axes)
    return _png(figure)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    return Figure(figsize=(width, height), layout="constrained")


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    axes.set_axisbelow(True)


def _png(figure: "Figure") -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=140, metadata={"Software": None})
    return out.getvalue()
