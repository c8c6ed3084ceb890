"""Measure whether int8 is faster than fp32 on this CPU, and which form of it.

    python benchmarks/bench_int8.py                    # nano, a minute
    python benchmarks/bench_int8.py --bundle runs/vit  # another bundle

Contenders, all made from the bundle's own fp32 frame encoder and a calibration on the demo: fp32, fp32 loaded
a second time (a ratio nearer to 1 than its ratio is noise), int8 of matrix products, and int8 of matrix
products and of convolutions. They take turns in every round, in another order each time; a ratio is the
median, over the rounds, of fp32's CPU time divided by the contender's in the same round, so more than 1 is
faster. The time is that of the processor, which other programs disturb less than that of the clock. Written
to --out as int8.json.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from emotion_bench.machine import card
from emotion_bench.report import write_json
from emotion_export.layers import GraphIndex
from emotion_export.quantize import calibrate, int8_layers, quantise
from emotion_runtime.backends.base import Backend, Feeds
from emotion_runtime.backends.buckets import limits_for
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import load_bundle
from emotion_runtime.parity_inputs import frame_encoder_feeds

RESULTS = Path(__file__).resolve().parent / "results" / "int8"
FP32, AGAIN = "fp32", "fp32, again"
FORMS = {"int8: products": ["MatMul"], "int8: products and convolutions": ["MatMul", "Conv"]}
ROUNDS = 31
PERSONS = (1, 4)


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="nano", help="name or folder of a bundle (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="number of rounds (default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    bundle = load_bundle(args.bundle)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        graphs = make_graphs(bundle, Path(folder))
        feeds = {
            persons: frame_encoder_feeds(bundle.manifest.preprocess, limits_for("subject", persons))[-1][0]
            for persons in PERSONS
        }
        for threads in args.threads:
            backends = {name: OnnxBackend(path, threads=threads) for name, path in graphs.items()}
            for persons, feed in feeds.items():
                ratios = measure(backends, feed, args.rounds)
                rows.append({"threads": threads, "persons": persons, "ratios": ratios})
                sys.stdout.write(f"{threads} threads, {persons} persons: {ratios}\n")
        sizes = {name: path.stat().st_size for name, path in graphs.items()}
    result = {"bundle": bundle.manifest.name, "rounds": args.rounds, "bytes": sizes, "rows": rows}
    write_json(args.out / "int8.json", {**result, "machine": card()})
    return 0


def make_graphs(bundle: Any, folder: Path) -> dict[str, Path]:
    """Return the file of each contender."""
    path = bundle.graph_path("frame_encoder")
    groups = frame_encoder_feeds(bundle.manifest.preprocess, limits_for("subject", max(PERSONS)))
    ranges = calibrate(path, [feed for group in groups for feed in group])
    graphs = {FP32: path, AGAIN: path}
    model = onnx.load(path)
    for name, operators in FORMS.items():
        nodes = [node for each in int8_layers(GraphIndex(model), operators).values() for node in each]
        graphs[name] = folder / f"{len(graphs)}.onnx"
        onnx.save(quantise(model, ranges, nodes), graphs[name])
    return graphs


def measure(backends: Mapping[str, Backend], feed: Feeds, rounds: int) -> dict[str, float]:
    """Return the ratio of each contender to fp32."""
    order, rng = list(backends), random.Random(0)  # noqa: S311 - the order of a benchmark
    seconds: dict[str, list[float]] = {name: [] for name in backends}
    for turn in range(rounds + 1):  # the first one warms up
        rng.shuffle(order)
        for name in order:
            start = time.process_time()
            backends[name].run(feed)
            if turn:
                seconds[name].append(time.process_time() - start)
    return {
        name: round(statistics.median(a / b for a, b in zip(seconds[FP32], values, strict=True)), 3)
        for name, values in seconds.items()
        if name != FP32
    }


if __name__ == "__main__":
    sys.exit(main())
