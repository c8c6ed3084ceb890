"""Write the results of a benchmark: JSON and a Markdown page."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emotion_bench.machine import card, cpu_name, folder_name
from emotion_runtime.backends.onnx import usable_cores
from emotion_runtime.console import run
from emotion_runtime.files import write_atomically
from emotion_train.tables import percent

RESULTS = Path(__file__).resolve().parents[1] / "results"
Result = dict[str, Any]


def results_parser(
    about: str | None, folder: str | None = None, *, quick: bool = False
) -> argparse.ArgumentParser:
    """Return a parser with --out, by default a folder in results/ with this name, or that of the machine.

    `about` is the docstring of the script.
    """
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    out = RESULTS / (folder or folder_name(cpu_name(), usable_cores()))
    parser.add_argument("--out", type=Path, default=out, help="folder of the results (default: %(default)s)")
    if quick:
        parser.add_argument("--quick", action="store_true", help="a quick trial, whose times mean nothing")
    return parser


def report(
    program: str,
    path: Path | None,
    measure: Callable[[], Result],
    page: Callable[[Result], str],
    *,
    write_page: bool = True,
) -> int:
    """Run a benchmark, print its page, and return the exit status; a user's mistake is one line.

    Args:
        program: Name of the script.
        path: The result is written here as JSON, with the machine that it ran on; None: print only.
        measure: Returns the result.
        page: Turns it into Markdown.
        write_page: Write the page beside the JSON.
    """

    def command() -> None:
        result = {"benchmark": program.removeprefix("bench_"), "machine": card(), **measure()}
        text = page(result)
        if path is not None:
            write_json(path, result)
            print(path, file=sys.stderr)
            if write_page:
                write_atomically(path.with_suffix(".md"), text)
        print(text)

    return run(program, command)


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result as indented JSON."""
    write_atomically(path, json.dumps(result, indent=2) + "\n")


def machine_of(result: Mapping[str, Any]) -> str:
    """Return the name of the machine of a result."""
    return "{cpu}, {cores} cores".format(**result["machine"])


def with_interval(metric: Mapping[str, Any]) -> str:
    """Write a fraction with its interval, if it has one: "86.3 % (84.6-87.9)"."""
    text = percent(metric["value"])
    return text if metric["low"] is None else f"{text} ({100 * metric['low']:.1f}-{100 * metric['high']:.1f})"


def difference(values: Sequence[float]) -> str:
    """Write a difference of fractions and the ends of its interval in points: "+5.1 (+3.9 to +6.2)"."""
    middle, low, high = (100 * value for value in values)
    return f"{middle:+.1f} ({low:+.1f} to {high:+.1f})"
