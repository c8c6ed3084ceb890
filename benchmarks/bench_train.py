"""Measure how fast a model trains on clips, where the time of a step goes, and what bounds it.

    python benchmarks/bench_train.py --results benchmarks/results/my-machine
    python benchmarks/bench_train.py --quick --results /tmp/train        # a quick trial

Each preset trains in a process of its own, in the loop of pretrain.py, from random weights (speed needs no
training), on shards of the videos in --data, prepared on the spot with invented captions, or of synthetic
images. Two bounds are measured beside a step: the loader alone, and the machine's product of two square
matrices. Apart from training are measured, each beside a second implementation of how it was before: the CPU
time of a clip; a clip whose requests take --delay; a large index; the memory of the loss. A run on 8 GPUs is
predicted from these parts. Written to --results: train.json and train.md.
"""

import argparse
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from emotion_bench.forecast import forecast
from emotion_bench.loader import index_cost, latency_cost, loader_cost
from emotion_bench.loss_memory import loss_memory
from emotion_bench.machine import card
from emotion_bench.report import write_json
from emotion_bench.train_data import made_shards, real_shards
from emotion_bench.train_page import page
from emotion_bench.train_step import Settings, measure
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_train.clips.reader import ShardSet
from emotion_train.model import PRESETS

BATCH = {"nano": 16, "vit-b-32": 4}  # a step takes seconds on a CPU
STEPS = {"nano": 20, "vit-b-32": 6}
SMALLEST_BATCH = 2  # the contrastive loss needs at least two clips


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    args = parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as work:
            result = bench(args, Path(work))
    except EmotionError as error:
        print(f"bench_train: error: {error}", file=sys.stderr)
        return 2
    write_json(args.results / "train.json", result)
    write_atomically(args.results / "train.md", page(result))
    print(page(result))
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; --quick changes the defaults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--presets", nargs="+", choices=sorted(BATCH), help="presets to measure (default: all)")
    add("--batch", type=int, help=f"number of clips per step (default: {BATCH})")
    add("--steps", type=int, help=f"number of measured steps (default: {STEPS})")
    add("--workers", type=int, default=2, help="number of processes that load batches (default: %(default)s)")
    add("--precision", choices=("fp32", "bf16"), default="fp32", help="numeric precision (default: fp32)")
    add("--delay", type=float, default=0.03, help="seconds of a request (default: %(default)s)")
    add("--index-clips", type=int, help="clips of the large index, in thousands (default: 1000)")
    add("--data", type=Path, help="folder with videos/ and data/goemotions_ekman/ to prepare shards from")
    add("--shards", type=Path, help="folder of shards written by prepare_data.py, instead of --data")
    add("--quick", action="store_true", help="a quick trial of nano, whose speeds mean nothing")
    add("--results", type=Path, required=True, help="folder of train.json and train.md")
    args = parser.parse_args(argv)
    args.presets = args.presets or (["nano"] if args.quick else sorted(BATCH))
    if args.quick:
        args.batch, args.steps = args.batch or 4, args.steps or 3
    args.index_clips = args.index_clips or (2 if args.quick else 1000)
    return args


def bench(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Measure everything and return the content of train.json.

    Raises:
        EmotionError: An option is out of range, or the data cannot be used.
    """
    for name, value, least in (
        ("batch", args.batch, SMALLEST_BATCH),
        ("steps", args.steps, 1),
        ("workers", args.workers, 0),
    ):
        if value is not None and value < least:
            raise EmotionError(f"--{name} {value}: expected {least} or more")
    if args.data and args.shards:
        raise EmotionError("--data and --shards are both given: expected one of them, or neither")
    shards, made_of = _shards(args, work)
    clips = len(ShardSet.open(str(shards)))
    presets = {name: _measure(name, args, shards) for name in args.presets}
    print("bench_train: loader, latency, index, loss", file=sys.stderr)
    spec, quick = PRESETS["vit-b-32"].preprocess, args.quick
    several = {"batch": min(8, clips // 2), "batches": 2 if quick else 12}
    loader = loader_cost(shards, spec, **several)
    latency = latency_cost(shards, spec, **several, delay=args.delay)
    return {
        "benchmark": "train",
        "machine": card(),
        "precision": args.precision,
        "workers": args.workers,
        "quick": quick,
        "shards": {"of": made_of, "clips": clips},
        "presets": presets,
        "loader": loader,
        "latency": latency,
        "index": index_cost(
            work / "index",
            clips=1000 * args.index_clips,
            workers=1 if quick else 4,
            reads=2000 if quick else 100_000,
        ),
        "loss_mib": loss_memory((256, 512) if quick else (2048, 4096, 8192)),
        "forecast": {name: forecast(preset, loader, latency) for name, preset in presets.items()},
    }


def _measure(preset: str, args: argparse.Namespace, shards: Path) -> dict[str, Any]:
    print(f"bench_train: {preset}", file=sys.stderr)
    settings = Settings(
        shards=str(shards),
        batch=args.batch or BATCH[preset],
        steps=args.steps or STEPS[preset],
        warmup=1 if args.quick else 2,
        loaded=3 if args.quick else 32,
        workers=args.workers,
        precision=args.precision,
        side=256 if args.quick else 1536,
    )
    # In a process of its own, since peak memory is a high-water mark of the process.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        return pool.submit(measure, PRESETS[preset], settings).result()


def _shards(args: argparse.Namespace, work: Path) -> tuple[Path, str]:
    """Return the folder of shards and a description of their content."""
    if args.shards:
        return args.shards, "prepared clips"
    if args.data:
        print(f"bench_train: preparing the videos of {args.data}, which takes some minutes", file=sys.stderr)
        return real_shards(args.data, work, workers=max(args.workers, 1)), "real videos"
    needed = max(args.batch or max(BATCH.values()), 24)
    return made_shards(work / "made", clips=needed, short_side=256), "synthetic images"


if __name__ == "__main__":
    sys.exit(main())
