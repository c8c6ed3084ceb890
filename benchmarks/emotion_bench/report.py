"""Write the results of a benchmark: JSON, a Markdown table, plots over the number of people."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from emotion_bench.machine import card, folder_name
from emotion_runtime.console import run
from emotion_runtime.files import write_atomically
from emotion_train.plotting import new_figure, plot_stacked_bars, style_axes, to_png
from emotion_train.plotting import plot_lines as draw_lines

RESULTS = Path(__file__).resolve().parents[1] / "results"
Result = dict[str, Any]


def results_parser(about: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks of this machine share.

    Args:
        about: The docstring of the script.
    """
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, help="folder of the results (default: results/ and the name of this machine)")
    add("--cores", type=int, help="number of cores in that name, where several machines share a CPU")
    add("--quick", action="store_true", help="a quick trial")
    return parser


def write_result(args: argparse.Namespace, name: str, result: Mapping[str, Any]) -> None:
    """Write the result of a benchmark as NAME.json, with the machine that it ran on.

    Args:
        args: What a `results_parser` parsed.
        name: Name of the benchmark.
        result: The rest of the result.
    """
    machine = card()
    cores = args.cores or int(machine["cores"] or 1)
    file = (args.out or RESULTS / folder_name(str(machine["cpu"]), cores)) / f"{name}.json"
    write_json(file, {"benchmark": name, "machine": machine, **result})
    print(file, file=sys.stderr)


def report(
    program: str, path: Path | None, measure: Callable[[], Result], page: Callable[[Result], str]
) -> int:
    """Run a benchmark, print its page, and return the exit status; a user's mistake is one line.

    Args:
        program: Name of the script.
        path: The result is written here as JSON, and the page beside it as Markdown; None: print only.
        measure: Returns the result.
        page: Turns it into Markdown.
    """

    def command() -> None:
        result = measure()
        text = page(result)
        if path is not None:
            write_json(path, result)
            write_atomically(path.with_suffix(".md"), text)
        print(text)

    return run(program, command)


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result as indented JSON."""
    write_atomically(path, json.dumps(result, indent=2) + "\n")


def plot_lines(path: Path, panels: Mapping[str, Mapping[str, Mapping[int, float]]], ylabel: str) -> None:
    """Write a plot with one panel per title: values by number of people, both axes logarithmic.

    Args:
        path: The PNG file; it is not written without panels.
        panels: Values by number of people, by name of the line, by title of the panel.
        ylabel: Label of the vertical axes.
    """
    from matplotlib.ticker import LogLocator  # noqa: PLC0415 - slow to import

    if not panels:
        return
    figure = new_figure(4.6 * len(panels), 4.2)
    for axes, (title, lines) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        style_axes(axes, title)
        draw_lines(axes, {name: {float(p): ms for p, ms in points.items()} for name, points in lines.items()})
        ticks = sorted({people for points in lines.values() for people in points})
        axes.set(xlabel="people", ylabel=ylabel, xscale="log", yscale="log")
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    write_atomically(path, to_png(figure))


def plot_bars(path: Path, bars: Mapping[str, Mapping[str, float]], xlabel: str) -> None:
    """Write a plot with one stacked bar per name, made of labelled parts.

    Args:
        path: The PNG file.
        bars: Sizes of the parts by their labels, by name of the bar.
        xlabel: Label of the horizontal axis.
    """
    figure = new_figure(8, 1.2 + 0.6 * len(bars))
    axes = figure.subplots()
    style_axes(axes)
    plot_stacked_bars(axes, bars)
    axes.set(xlabel=xlabel)
    write_atomically(path, to_png(figure))
