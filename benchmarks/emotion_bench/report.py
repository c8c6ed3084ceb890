"""Results on disk: one JSON, one table in Markdown, one plot."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result whole or not at all."""
    write_text(path, json.dumps(result, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that terminals and Markdown both show."""
    table = [header, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])


def plot_lines(path: Path, panels: Mapping[str, Mapping[str, Mapping[int, float]]], ylabel: str) -> None:
    """A picture with one panel a title: lines by name, values by number of persons, both axes logarithmic.

    None is written without panels.
    """
    import matplotlib as mpl  # noqa: PLC0415 - slow, and only the last step needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415
    from matplotlib.ticker import LogLocator  # noqa: PLC0415

    if not panels:
        return
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 4.2), squeeze=False)
    for axis, (title, lines) in zip(axes[0], panels.items(), strict=True):
        for name, points in lines.items():
            axis.plot(list(points), list(points.values()), marker="o", label=name)
        ticks = sorted({persons for points in lines.values() for persons in points})
        axis.set(title=title, xlabel="persons", ylabel=ylabel, xscale="log", yscale="log")
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.grid(visible=True, alpha=0.3)
        axis.legend(fontsize=7)
    _save(figure, path)
    plt.close(figure)


def plot_bars(path: Path, bars: Mapping[str, Mapping[str, float]], xlabel: str) -> None:
    """A picture with one stacked bar a name: parts by their label."""
    import matplotlib as mpl  # noqa: PLC0415 - see plot_lines

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axis = plt.subplots(figsize=(8, 1.2 + 0.6 * len(bars)))
    labels = list(dict.fromkeys(label for parts in bars.values() for label in parts))
    left = dict.fromkeys(bars, 0.0)
    for label in labels:
        widths = [parts.get(label, 0.0) for parts in bars.values()]
        axis.barh(list(bars), widths, left=list(left.values()), label=label)
        left = {name: left[name] + width for name, width in zip(bars, widths, strict=True)}
    axis.set(xlabel=xlabel)
    axis.legend(fontsize=7, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    _save(figure, path)
    plt.close(figure)


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
