"""Measure the speed of the frame encoder beside the plain export of the same model and the machine's sgemm.

    python benchmarks/bench_encoder.py                                  # five minutes
    python benchmarks/bench_encoder.py --quick                          # half a minute, a quick trial

Every round measures these contenders one after the other, in another order each time:
  ours on BACKEND    the graph of a bundle: patches of an image are encoded once, weights instead of masks
  ours on cpu, again the same file loaded a second time: a ratio nearer to 1 than its ratio is noise
  plain on BACKEND   the model as `torch.onnx.export` writes it: an image and a full-size mask per person,
                     all tokens through all blocks
All people of a call share one crop, so that P = 8 means eight people in one image; the shipped model uses a
crop per person (see bench_crowd.py for its times). A ratio is the median, over the rounds, of the time
of plain in ONNX Runtime divided by the contender's time in the same round. Weights are formulas, since
speed needs no training. Written to --out: encoder.json.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from emotion_bench.feeds import frame_feeds
from emotion_bench.models import export_both, formula_model, plain_feeds
from emotion_bench.report import report, results_parser
from emotion_bench.rounds import interleave, ratios, spread
from emotion_bench.work import Limits, measure_limits, work_of
from emotion_runtime.backends.base import Backend, Outputs, Unavailable
from emotion_runtime.backends.buckets import Bucketed
from emotion_runtime.backends.cuda import open_cuda
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.backends.openvino import OpenVinoBackend
from emotion_runtime.errors import EmotionError
from result_tables import encoder_table

BASELINE, AGAIN = "plain on cpu", "ours on cpu, again"
OPENERS: dict[str, Callable[[Path], Backend]] = {
    "cpu": OnnxBackend,
    "cuda": lambda graph: Bucketed(open_cuda(graph)),
    "openvino": OpenVinoBackend,
}


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = results_parser(__doc__, quick=True)
    add = parser.add_argument
    add("--models", nargs="+", choices=("nano", "vit-b-32"), help="presets to measure (default: both)")
    add("--persons", nargs="+", type=int, metavar="P", help="numbers of people (default: 1 2 4 8)")
    add("--rounds", type=int, help="number of rounds (default: 9)")
    backends = "backends beside cpu (default: openvino)"
    add("--backends", nargs="*", choices=[*OPENERS][1:], default=["openvino"], help=backends)
    args = parser.parse_args(argv)
    args.models = args.models or (["nano"] if args.quick else ["nano", "vit-b-32"])
    args.persons = args.persons or ([1, 2] if args.quick else [1, 2, 4, 8])
    args.rounds = args.rounds or (3 if args.quick else 9)
    measuring = partial(measure, args)
    return report("bench_encoder", args.out / "encoder.json", measuring, encoder_table, write_page=False)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all models."""
    limits = measure_limits(args.rounds)
    with tempfile.TemporaryDirectory() as work:
        rows = [row for model in args.models for row in measure_model(model, args, Path(work), limits)]
    return {"rounds": args.rounds, "limits": limits.as_json(), "rows": rows}


def measure_model(preset: str, args: argparse.Namespace, work: Path, limits: Limits) -> list[dict[str, Any]]:
    """Measure one model and return its rows.

    Raises:
        EmotionError: Two contenders give different outputs.
    """
    print(f"{preset}: exporting", file=sys.stderr)
    model = formula_model(preset)
    files = dict(zip(("ours", "plain"), export_both(model, work / preset), strict=True))
    spec = model.config.preprocess
    del model  # frees half a gigabyte for the sessions
    contenders, rows = open_contenders(files, args.backends), []
    for persons in args.persons:
        shared = frame_feeds(spec, persons)
        feeds = {"ours": shared, "plain": plain_feeds(spec, shared)}
        flops = {kind: work_of(file, feeds[kind]).flops for kind, file in files.items()}
        calls = {name: partial(each.run, feeds[name.split()[0]]) for name, each in contenders.items()}
        differences = compare_outputs(calls)
        seconds = interleave(calls, rounds=args.rounds)
        for name, times in seconds.items():
            least = flops[name.split()[0]] / limits.flops  # seconds
            rows.append(
                {
                    "model": preset,
                    "persons": persons,
                    "contender": name,
                    "ms": spread([1000 * each for each in times]),
                    "ratio_to_plain": spread(ratios(seconds[BASELINE], times)),
                    "max_abs_difference": differences[name],
                    "share_of_sgemm": spread([least / each for each in times]),
                }
            )
        print(f"{preset} P={persons}: done", file=sys.stderr)
    return rows


def open_contenders(files: Mapping[str, Path], backends: list[str]) -> dict[str, Backend]:
    """Open all contenders, by name; backends that are not available are reported and left out."""
    contenders: dict[str, Backend] = {}
    for name in ("cpu", *backends):
        try:
            contenders |= {f"{kind} on {name}": OPENERS[name](file) for kind, file in files.items()}
        except Unavailable as error:  # noqa: PERF203 - two or three times
            print(f"left out: {error}", file=sys.stderr)
    return {**contenders, AGAIN: OnnxBackend(files["ours"])}


def compare_outputs(calls: Mapping[str, Callable[[], Outputs]]) -> dict[str, float]:
    """Return the largest difference of each contender from the baseline, in standard deviations of that.

    Raises:
        EmotionError: A contender is not the same function.
    """
    (expected,) = calls[BASELINE]().values()
    found = {}
    for name, call in calls.items():
        (output,) = call().values()
        found[name] = float(np.abs(output - expected).max() / expected.std())
        if not found[name] < 1e-3:
            raise EmotionError(f"{name} differs from {BASELINE} by {found[name]:.1e} standard deviations")
    return found


if __name__ == "__main__":
    sys.exit(main())
