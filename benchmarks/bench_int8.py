"""Measure whether int8 is faster than fp32 on this CPU, and which form of it.

    python benchmarks/bench_int8.py                    # nano, a minute
    python benchmarks/bench_int8.py --bundle runs/vit  # another bundle
    python benchmarks/bench_int8.py --preset vit-b-32  # a model of this size with untrained weights, minutes

Contenders, all made from the same fp32 frame encoder and a calibration on the demo: fp32, fp32 loaded a
second time (a ratio nearer to 1 than its ratio is noise), int8 of matrix products, and int8 of matrix
products and of convolutions. They take turns in every round, in another order each time; a ratio is the
median, over the rounds, of fp32's CPU time divided by the contender's in the same round, so more than 1 is
faster. The time is that of the processor, which other programs disturb less than that of the clock. Parity
with fp32 is measured on the people of the demo as in the parity check of engines: the lowest cosine of an
embedding, and the cosine of the differences between two people in one crop. Written to --out as int8.json,
with --preset as PRESET.json.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from emotion_bench.machine import card
from emotion_bench.models import formula_model
from emotion_bench.report import write_json
from emotion_export.graph_index import GraphIndex
from emotion_export.graphs import graph_sources
from emotion_export.onnx import write_graph
from emotion_export.quantize import calibrate, int8_nodes, quantise
from emotion_runtime.backends.base import Backend, Feeds
from emotion_runtime.backends.buckets import limits_for
from emotion_runtime.backends.onnx import OnnxBackend
from emotion_runtime.bundle import load_bundle
from emotion_runtime.parity_inputs import frame_encoder_feeds
from emotion_runtime.parity_metrics import subject_cosine, subject_pairs
from emotion_runtime.preprocess import PreprocessSpec
from emotion_runtime.vectors import cosine_similarity
from emotion_train.model import PRESETS

RESULTS = Path(__file__).resolve().parent / "results" / "int8"
FP32, AGAIN = "fp32", "fp32, again"
FORMS = {"int8: products": ["MatMul"], "int8: products and convolutions": ["MatMul", "Conv"]}
ROUNDS = 31
PERSONS = (1, 4)


def main() -> int:
    """Run the benchmark and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--bundle", default="nano", help="name or folder of a bundle (default: %(default)s)")
    which.add_argument("--preset", choices=sorted(PRESETS), help="preset of a model with untrained weights")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="number of rounds (default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        name, path, spec = (
            preset_graph(args.preset, Path(folder)) if args.preset else bundle_graph(args.bundle)
        )
        groups = {
            persons: frame_encoder_feeds(spec, limits_for("subject", persons))[-1] for persons in PERSONS
        }
        graphs = make_graphs(path, groups[max(PERSONS)], Path(folder))
        for threads in args.threads:
            backends = {contender: OnnxBackend(file, threads=threads) for contender, file in graphs.items()}
            for persons, group in groups.items():
                ratios = measure(backends, group[0], args.rounds)
                rows.append({"threads": threads, "persons": persons, "ratios": ratios})
                sys.stdout.write(f"{threads} threads, {persons} persons: {ratios}\n")
        parity = {form: compare(backends[FP32], backends[form], groups[max(PERSONS)]) for form in FORMS}
        sys.stdout.write(f"parity: {parity}\n")
        sizes = {contender: file.stat().st_size for contender, file in graphs.items()}
    result = {"bundle": name, "rounds": args.rounds, "bytes": sizes, "rows": rows, "parity": parity}
    write_json(args.out / f"{args.preset or 'int8'}.json", {**result, "machine": card()})
    return 0


def bundle_graph(name: str) -> tuple[str, Path, PreprocessSpec]:
    """Return the name, the fp32 frame encoder and the crops of a bundle."""
    bundle = load_bundle(name)
    return bundle.manifest.name, bundle.graph_path("frame_encoder"), bundle.manifest.preprocess


def preset_graph(preset: str, folder: Path) -> tuple[str, Path, PreprocessSpec]:
    """Export the frame encoder of a model whose weights are a function of their names."""
    model, path = formula_model(preset), folder / "frame_encoder.onnx"
    write_graph(graph_sources(model)[0], path)
    return f"{preset}, untrained", path, model.config.preprocess


def make_graphs(path: Path, feeds: Sequence[Feeds], folder: Path) -> dict[str, Path]:
    """Return the file of each contender."""
    ranges = calibrate(path, [dict(feed) for feed in feeds])
    graphs = {FP32: path, AGAIN: path}
    model = onnx.load(path)
    for name, operators in FORMS.items():
        nodes = int8_nodes(GraphIndex(model), operators)
        graphs[name] = folder / f"{len(graphs)}.onnx"
        onnx.save(quantise(model, ranges, nodes), graphs[name])
    return graphs


def compare(expected: Backend, found: Backend, feeds: Sequence[Feeds]) -> dict[str, float | None]:
    """Return the parity of a contender with fp32."""
    a, b = (np.concatenate([each.run(feed)["embeddings"] for feed in feeds]) for each in (expected, found))
    return {
        "cosine_min": round(float(cosine_similarity(a, b).min()), 6),
        "subject_cosine": subject_cosine(a.astype(np.float64), b.astype(np.float64), subject_pairs(feeds)),
    }


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
