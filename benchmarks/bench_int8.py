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
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from emotion_bench.models import formula_model
from emotion_bench.report import report, results_parser
from emotion_bench.rounds import interleave, ratios
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
from emotion_train.tables import markdown_table

PARITY = {"cosine_min": "lowest cosine", "subject_cosine": "cosine of two subjects"}
FP32, AGAIN = "fp32", "fp32, again"
FORMS = {"int8: products": ["MatMul"], "int8: products and convolutions": ["MatMul", "Conv"]}
ROUNDS = 31
PERSONS = (1, 4)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = results_parser(__doc__, "int8")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--bundle", default="nano", help="name or folder of a bundle (default: %(default)s)")
    which.add_argument("--preset", choices=sorted(PRESETS), help="preset of a model with untrained weights")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="number of rounds (default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)"
    )
    args = parser.parse_args(argv)
    path = args.out / f"{args.preset or 'int8'}.json"
    return report("bench_int8", path, partial(measure, args), table, write_page=False)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure speed and parity of all contenders."""
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
                times_faster = compare_times(backends, group[0], args.rounds)
                rows.append({"threads": threads, "persons": persons, "ratios": times_faster})
        parity = {
            form: compare_outputs(backends[FP32], backends[form], groups[max(PERSONS)]) for form in FORMS
        }
        sizes = {contender: file.stat().st_size for contender, file in graphs.items()}
    return {"bundle": name, "rounds": args.rounds, "bytes": sizes, "rows": rows, "parity": parity}


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


def compare_outputs(expected: Backend, found: Backend, feeds: Sequence[Feeds]) -> dict[str, float | None]:
    """Return the parity of a contender with fp32."""
    a, b = (np.concatenate([each.run(feed)["embeddings"] for feed in feeds]) for each in (expected, found))
    return {
        "cosine_min": round(float(cosine_similarity(a, b).min()), 6),
        "subject_cosine": subject_cosine(a.astype(np.float64), b.astype(np.float64), subject_pairs(feeds)),
    }


def compare_times(backends: Mapping[str, Backend], feed: Feeds, rounds: int) -> dict[str, float]:
    """Return the ratio of each contender to fp32."""
    calls = {name: partial(backend.run, feed) for name, backend in backends.items()}
    seconds = interleave(calls, rounds=rounds, clock=time.process_time)
    return {
        name: round(statistics.median(ratios(seconds[FP32], values)), 3)
        for name, values in seconds.items()
        if name != FP32
    }


def table(result: dict[str, Any]) -> str:
    """Return the results as a Markdown table: how many times as fast as fp32, and parity with it."""
    rows = []
    for name in (AGAIN, *FORMS):
        speeds = [f"{row['ratios'][name]:.2f}" for row in result["rows"]]
        parity = result["parity"].get(name, {})
        rows.append([name, *speeds, *(f"{parity[key]:.4f}" if parity.get(key) else "" for key in PARITY)])
    columns = [f"{row['threads']} threads, {row['persons']} people" for row in result["rows"]]
    return markdown_table(["", *columns, *PARITY.values()], rows)


if __name__ == "__main__":
    sys.exit(main())
