"""Charts of a report, as SVG without text: browsers stretch them to the width of the page."""

from collections.abc import Mapping

from emotion_runtime.sinks.report.text import escaped
from emotion_runtime.sinks.report.timeline import Timeline

_WIDTH, _HEIGHT = 1000, 100  # units of the drawing


def chart(
    timeline: Timeline,
    length: float,
    classes: Mapping[str, str],
    description: str,
    people: float | None = None,
) -> str:
    """Return a chart of people over time, by label, one above the other.

    Args:
        timeline: Seconds by label.
        length: Media time, in seconds, at the right edge.
        classes: Class of the style sheet by label, in the order from the bottom.
        description: What the chart shows, for those who do not see it.
        people: How many people the height stands for. None: one, in a low chart.
    """
    paths: dict[str, list[str]] = {label: [] for label in classes}
    for begin, spent in timeline.bins():
        covered = min(timeline.width, length - begin)
        if covered <= 0:
            continue
        x, width = _WIDTH * begin / length, _WIDTH * covered / length
        y = float(_HEIGHT)
        for label in classes:
            height = min(_HEIGHT * spent.get(label, 0.0) / (covered * (people or 1.0)), y)
            if height >= 0.05:  # of 100; less is too little to be seen
                y -= height
                paths[label].append(f"M{x:.1f} {y:.1f}h{width:.1f}v{height:.1f}h-{width:.1f}z")
    drawn = "".join(
        f'<path class="{classes[label]}" d="{"".join(path)}"/>' for label, path in paths.items() if path
    )
    tall = ' class="tall"' if people is not None else ""
    return (
        f'<svg{tall} role="img" aria-label="{escaped(description)}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'preserveAspectRatio="none" shape-rendering="crispEdges">{drawn}</svg>'
    )


def most_people(timeline: Timeline, length: float) -> float:
    """Return how many people there are at most in a bin, on the average of the bin; at least 1."""
    most = 1.0
    for begin, spent in timeline.bins():
        covered = min(timeline.width, length - begin)
        if covered > 0:
            most = max(most, sum(spent.values()) / covered)
    return most
