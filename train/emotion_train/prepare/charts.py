"""Draw the plots of `statistics.html`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from emotion_train.plotting import BLUE, LIGHT_GREY, RED, new_figure, style_axes, to_svg
from emotion_train.prepare.statistics import MOST_PERSONS, Histogram, Statistics
from emotion_train.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def charts(statistics: Statistics) -> list[str]:
    """Return plots as SVG; the same counts give the same text."""
    filters = statistics.settings.filters
    plots = []

    figure, axes = _panel("Sentences: kept, or left out and why")
    _draw_outcomes(
        axes, [name for name, count in statistics.sentences.items() if count or name == "kept"], statistics
    )
    plots.append(to_svg(figure))

    figure, axes = _panel("Duration of sentences, seconds")
    _draw_histogram(axes, statistics.seconds, LIGHT_GREY, "all sentences")
    _draw_histogram(axes, statistics.kept_seconds, BLUE, "clips")
    for bound in (filters.min_seconds, filters.max_seconds):
        axes.axvline(bound, color=RED, linewidth=1, linestyle="--")
    axes.legend(frameon=False)
    plots.append(to_svg(figure))

    figure, axes = _panel(f"People found in a frame ({MOST_PERSONS}: as many or more)")
    axes.bar(range(len(statistics.persons)), statistics.persons, 0.8, color=BLUE)
    plots.append(to_svg(figure))

    figure, axes = _panel("Most probable sentiment of the clips")
    axes.bar(list(statistics.sentiment), list(statistics.sentiment.values()), 0.8, color=BLUE)
    plots.append(to_svg(figure))

    figure, axes = _panel("Probability of neutral, of all scored sentences")
    _draw_histogram(axes, statistics.neutral, LIGHT_GREY)
    axes.axvline(filters.max_neutral, color=RED, linewidth=1, linestyle="--", label="kept up to here")
    axes.legend(frameon=False)
    plots.append(to_svg(figure))
    return plots


def _panel(title: str) -> "tuple[Figure, Axes]":
    figure = new_figure(5.6, 3.0)
    axes = figure.add_subplot()
    style_axes(axes, title)
    return figure, axes


def _draw_histogram(axes: "Axes", histogram: Histogram, color: str, label: str | None = None) -> None:
    edges = histogram.edges
    axes.bar(edges[:-1], histogram.counts, edges[1], align="edge", color=color, label=label)


def _draw_outcomes(axes: "Axes", outcomes: Sequence[str], statistics: Statistics) -> None:
    counts = [statistics.sentences[outcome] for outcome in outcomes]
    total = max(sum(statistics.sentences.values()), 1)
    bars = axes.barh(outcomes, counts, color=[BLUE if name == "kept" else LIGHT_GREY for name in outcomes])
    axes.bar_label(bars, [f" {count:,} ({percent(count / total)})" for count in counts], fontsize=8)
    axes.set_xlim(0, max(*counts, 1) * 1.35)
    axes.invert_yaxis()
