"""The plots of `statistics.html`."""

import io
from collections.abc import Sequence
from typing import Any

from emotion_train.prepare.statistics import MOST_PERSONS, Statistics

BLUE, GREY, RED = "#2a6f97", "#b8c4cc", "#c8553d"


def charts(statistics: Statistics) -> list[str]:
    """Figures as SVG; the same counts give the same bytes."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - as above

    filters = statistics.settings.filters
    drawn = []
    with mpl.rc_context({"svg.hashsalt": "prepare_data", "font.size": 9, "axes.axisbelow": True}):
        figure, axis = _axis(plt, "Sentences: kept, or left out and why")
        _bars(
            axis,
            [outcome for outcome, count in statistics.sentences.items() if count or outcome == "kept"],
            statistics,
        )
        drawn.append(_svg(plt, figure))

        figure, axis = _axis(plt, "Duration of sentences, seconds")
        edges, step = statistics.seconds.edges, statistics.seconds.edges[1]
        axis.bar(edges[:-1], statistics.seconds.counts, step, align="edge", color=GREY, label="all sentences")
        axis.bar(edges[:-1], statistics.kept_seconds.counts, step, align="edge", color=BLUE, label="clips")
        for bound in (filters.min_seconds, filters.max_seconds):
            axis.axvline(bound, color=RED, linewidth=1, linestyle="--")
        axis.legend(frameon=False)
        drawn.append(_svg(plt, figure))

        figure, axis = _axis(plt, f"Persons found in a frame ({MOST_PERSONS}: as many or more)")
        axis.bar(range(len(statistics.persons)), statistics.persons, 0.8, color=BLUE)
        drawn.append(_svg(plt, figure))

        figure, axis = _axis(plt, "Likeliest sentiment of the clips")
        axis.bar(list(statistics.sentiment), list(statistics.sentiment.values()), 0.8, color=BLUE)
        drawn.append(_svg(plt, figure))

        figure, axis = _axis(plt, "How neutral the scored sentences are (probability)")
        edges = statistics.neutral.edges
        axis.bar(edges[:-1], statistics.neutral.counts, edges[1], align="edge", color=GREY)
        axis.axvline(filters.max_neutral, color=RED, linewidth=1, linestyle="--", label="kept up to here")
        axis.legend(frameon=False)
        drawn.append(_svg(plt, figure))
    return drawn


def _axis(plt: Any, title: str) -> tuple[Any, Any]:
    figure, axis = plt.subplots(figsize=(5.6, 3.0))
    axis.set_title(title, loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
    return figure, axis


def _bars(axis: Any, outcomes: Sequence[str], statistics: Statistics) -> None:
    counts = [statistics.sentences[outcome] for outcome in outcomes]
    total = max(sum(statistics.sentences.values()), 1)
    bars = axis.barh(outcomes, counts, color=[BLUE if outcome == "kept" else GREY for outcome in outcomes])
    axis.bar_label(bars, [f" {count:,} ({share(count, total)})" for count in counts], fontsize=8)
    axis.set_xlim(0, max(*counts, 1) * 1.35)
    axis.invert_yaxis()


def _svg(plt: Any, figure: Any) -> str:
    data = io.StringIO()
    figure.tight_layout()
    figure.savefig(data, format="svg", metadata={"Date": None})
    plt.close(figure)
    text = data.getvalue()
    return text[text.index("<svg") :]


def share(part: int, whole: int) -> str:
    """As a percentage; of nothing, nothing."""
    return f"{100 * part / max(whole, 1):.1f} %"
