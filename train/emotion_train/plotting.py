"""The one palette and the one set of Matplotlib helpers, for the plots of all reports.

Figures are built without `pyplot`, so they need no display and no closing.
"""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, GREY, LIGHT_GREY = "#1b2a38", "#8a949e", "#b8c4cc"  # text; secondary lines and notes; background bars
BLUE, RED, GREEN, YELLOW, ORANGE, PURPLE = "#2a6f97", "#d1495b", "#66a182", "#edae49", "#e07a3f", "#7b5ea7"
SERIES = (BLUE, RED, GREEN, YELLOW, ORANGE, PURPLE, GREY, LIGHT_GREY)  # of lines or bars, in this order

_DPI = 140


def new_figure(width: float, height: float, title: str | None = None) -> "Figure":
    """Return an empty figure whose panels are laid out without overlap.

    Args:
        width: Inches.
        height: Inches.
        title: Printed above all panels, left-aligned.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    figure = Figure(figsize=(width, height), layout="constrained")
    if title is not None:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    return figure


def style_axes(axes: "Axes", title: str | None = None) -> None:
    """Give axes the common look: a title on the left, no frame above and on the right, a faint grid."""
    if title is not None:
        axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def plot_lines(axes: "Axes", lines: Mapping[str, Mapping[float, float]]) -> None:
    """Draw lines with a marker at every point, and a legend if there are several.

    Args:
        axes: Where to draw.
        lines: Values by x, by name of the line.
    """
    for index, (name, points) in enumerate(lines.items()):
        color = SERIES[index % len(SERIES)]
        axes.plot(list(points), list(points.values()), color=color, marker="o", ms=4, lw=1.6, label=name)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=8)


def plot_intervals(
    axes: "Axes", x: Sequence[float], values: Sequence[Sequence[float]], color: str, label: str
) -> None:
    """Draw points with their intervals.

    Args:
        axes: Where to draw.
        x: Positions, one per point.
        values: (value, low end, high end) of each point.
        color: Of the points and the whiskers.
        label: Entry in the legend.
    """
    middle = [value for value, _, _ in values]
    below, above = [value - low for value, low, _ in values], [high - value for value, _, high in values]
    axes.errorbar(x, middle, [below, above], fmt="o", ms=5, color=color, capsize=2, label=label)


def to_png(figure: "Figure") -> bytes:
    """Render a figure as PNG; the same figure gives the same bytes."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI, metadata={"Software": None})
    return content.getvalue()


def to_svg(figure: "Figure") -> str:
    """Render a figure as an `<svg>` element for an HTML page; the same figure gives the same text."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import

    content = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "emotion_train"}):  # element ids are random without it
        figure.savefig(content, format="svg", metadata={"Date": None})
    text = content.getvalue()
    return text[text.index("<svg") :]
