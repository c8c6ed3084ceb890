"""Write the results of a benchmark: JSON and a Markdown page."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emotion_bench.machine import card, folder_name
from emotion_runtime.console import run
from emotion_runtime.files import write_atomically
from emotion_train.tables import percent

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
    file = (
        args.out or RESULTS / folder_name(str(machine["cpu"]), int(machine["cores"] or 1))
    ) / f"{name}.json"
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
