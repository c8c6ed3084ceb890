"""Measure the speed of the encoders beside the plain export of the same model and the machine's sgemm.

    python benchmarks/bench_encoder.py                                  # ten minutes
    python benchmarks/bench_encoder.py --quick                          # half a minute, a quick trial

Every round measures these contenders one after the other, in another order each time:
  ours on BACKEND    the graph of a bundle: patches of an image are encoded once, weights instead of masks
  ours on cpu, again the same file loaded a second time: a ratio nearer to 1 than its ratio is noise
  ours, bucketed     on the CPU, with P padded to a power of two, as GPU backends get it
  plain on BACKEND   the model as `torch.onnx.export` writes it: an image and a full-size mask per person,
                     all tokens through all blocks
  sgemm              a product of two 1536 x 1536 float32 matrices: what the CPU can multiply
All people of a call share one crop, so that P = 8 means eight people in one image; the shipped model uses a
crop per person (see bench_accuracy.py for its times). A ratio is the median, over the rounds, of the time
of plain in ONNX Runtime divided by the contender's time in the same round. Weights are formulas, since
speed needs no training. Written to --out: encoder.json.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emotion_bench.ceilings import Sgemm
from emotion_bench.models import Exported, Feeds, clip_feeds, export_both, formula_model, frame_feeds
from emotion_bench.report import results_parser, write_result
from emotion_bench.rounds import interleave, ratios, spread
from emotion_runtime.backends.base import Backend, Unavailable
from emotion_runtime.backends.buckets import Bucketed
from emotion_runtime.console import run
from emotion_runtime.errors import EmotionError
from emotion_runtime.open_backend import open_backend
from emotion_train.tables import markdown_table

BASELINE, AGAIN, BUCKETED, SGEMM = "plain on cpu", "ours on cpu, again", "ours, bucketed", "sgemm"
FEEDS: Mapping[str, Callable[..., tuple[Feeds, Feeds]]] = {
    "frame_encoder": frame_feeds,
    "temporal_encoder": clip_feeds,
}


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    return run("bench_encoder", partial(benchmark, parse_args(argv)))


def benchmark(args: argparse.Namespace) -> None:
    """Measure all models, write the result and print its table."""
    with tempfile.TemporaryDirectory() as work:
        rows = [row for model in args.models for row in measure_model(model, args, Path(work))]
    write_result(args, "encoder", {"rounds": args.rounds, "rows": rows})
    print(table(rows))


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; --quick changes the defaults."""
    parser = results_parser(__doc__)
    add = parser.add_argument
    add("--models", nargs="+", choices=("nano", "vit-b-32"), help="presets to measure (default: both)")
    add("--persons", nargs="+", type=int, metavar="P", help="numbers of people (default: 1 2 4 8)")
    add("--rounds", type=int, help="number of rounds (default: 9)")
    add("--backends", nargs="*", default=["openvino"], help="backends beside cpu (default: openvino)")
    args = parser.parse_args(argv)
    args.models = args.models or (["nano"] if args.quick else ["nano", "vit-b-32"])
    args.persons = args.persons or ([1, 2] if args.quick else [1, 2, 4, 8])
    args.rounds = args.rounds or (3 if args.quick else 9)
    return args


def measure_model(preset: str, args: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    """Measure both graphs of one model and return their rows.

    Raises:
        EmotionError: A graph of ours and its plain export give different outputs.
    """
    print(f"{preset}: exporting", file=sys.stderr)
    model = formula_model(preset)
    exported = export_both(model, work / preset, args.persons)
    inputs = {(graph, count): FEEDS[graph](model, count) for graph in exported for count in args.persons}
    del model  # frees half a gigabyte for the sessions
    rows = []
    for graph, files in exported.items():
        contenders = open_contenders(files, args.backends)
        for persons in args.persons:
            feeds = inputs[graph, persons]
            about = {"model": preset, "graph": graph, "persons": persons}
            rows += [about | row for row in measure(contenders, feeds, files.flops[persons], args.rounds)]
            print(f"{preset} {graph} P={persons}: done", file=sys.stderr)
    return rows


def open_contenders(files: Exported, backends: list[str]) -> dict[str, Backend]:
    """Open all contenders, by name; backends that are not available are reported and left out."""
    contenders: dict[str, Backend] = {}
    for name in ("cpu", *backends):
        try:
            contenders[f"ours on {name}"] = open_backend(name, files.ours)
            contenders[f"plain on {name}"] = open_backend(name, files.plain)
        except Unavailable as error:  # noqa: PERF203 - two or three times
            print(f"left out: {error}", file=sys.stderr)
    more = {AGAIN: open_backend("cpu", files.ours), BUCKETED: Bucketed(contenders["ours on cpu"])}
    return contenders | more


def measure(
    contenders: Mapping[str, Backend], feeds: tuple[Feeds, Feeds], flops: tuple[int, int], rounds: int
) -> list[dict[str, Any]]:
    """Measure one graph for one number of people; return a row per contender and one for sgemm.

    `feeds` and `flops` are the inputs and operations of ours and of plain.

    Raises:
        EmotionError: Two contenders give different outputs.
    """
    sgemm = Sgemm()
    calls: dict[str, Callable[[], object]] = {SGEMM: sgemm}
    (expected,) = contenders[BASELINE].run(feeds[1]).values()
    differences = {}
    for name, backend in contenders.items():
        own = feeds[name.startswith("plain")]
        (output,) = backend.run(own).values()
        differences[name] = difference(name, output, expected)
        calls[name] = partial(backend.run, own)
    seconds = interleave(calls, rounds=rounds)
    peak = [sgemm.flops / each for each in seconds[SGEMM]]
    rows: list[dict[str, Any]] = [{"contender": SGEMM, "gflops": spread([each / 1e9 for each in peak], 1)}]
    for name in contenders:
        count = flops[name.startswith("plain")]
        rate = [count / each for each in seconds[name]]
        rows.append(
            {
                "contender": name,
                "ms": spread([1000 * each for each in seconds[name]]),
                "ratio_to_plain": spread(ratios(seconds[BASELINE], seconds[name])),
                "ratio_to_ours": spread(ratios(seconds["ours on cpu"], seconds[name])),
                "gflops": spread([each / 1e9 for each in rate], 2),
                "share_of_sgemm": spread(ratios(rate, peak)),
                "max_abs_difference": differences[name],
            }
        )
    return rows


def difference(name: str, found: Any, expected: Any) -> float:
    """Return the largest difference, in standard deviations of the expected output (P, D).

    Raises:
        EmotionError: The outputs differ, so this is not the same function.
    """
    largest = float(np.abs(found - expected).max() / expected.std())
    if not largest < 1e-3:
        raise EmotionError(f"{name} differs from {BASELINE} by {largest:.1e} standard deviations")
    return largest


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table: milliseconds and, in brackets, the speed relative to plain in ONNX Runtime."""
    persons = sorted({row["persons"] for row in rows})
    groups: dict[tuple[str, str, str], dict[int, str]] = {}
    for row in rows:
        key = row["model"], row["graph"], row["contender"]
        if row["contender"] == SGEMM:
            cell = f"{row['gflops']['median']:.0f} GFLOP/s"
        else:
            cell = f"{row['ms']['median']:.2f} ({row['ratio_to_plain']['median']:.2f})"
            if row["contender"].startswith("ours on cpu"):
                cell += f" {100 * row['share_of_sgemm']['median']:.0f} %"
        groups.setdefault(key, {})[row["persons"]] = cell
    lines = [[*key, *(cells.get(count, "") for count in persons)] for key, cells in groups.items()]
    header = ["model", "graph", "contender", *(f"P = {count}, ms" for count in persons)]
    noise = statistics.median(
        abs(row["ratio_to_ours"]["median"] - 1) for row in rows if row["contender"] == AGAIN
    )
    note = (
        "P people share one crop. In brackets: speed relative to plain in ONNX Runtime, the median over the "
        "rounds. Per cent: fraction of the sgemm rate. The same graph loaded twice differs by "
        f"{100 * noise:.1f} % (median): smaller differences are noise."
    )
    return f"{markdown_table(header, lines)}\n\n{note}"


if __name__ == "__main__":
    sys.exit(main())
