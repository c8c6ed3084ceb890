"""Measure how fast a model trains on clips, where the time of a step goes, and what bounds it.

    python benchmarks/bench_train.py
    python benchmarks/bench_train.py --quick --out /tmp/train        # a quick trial

Each preset trains in a process of its own, in the loop of pretrain.py, from random weights (speed needs no
training), on shards of synthetic images or on those in --shards. What bounds a step is measured beside it:
the machine's product of two square matrices. Apart from training are measured, each beside a second
implementation of how it was before: the CPU time of a clip; a clip whose requests take 30 ms; a large index;
the memory of the loss. A run on 8 GPUs is predicted from these parts. Written to --out: train.json and
train.md.
"""

import argparse
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from emotion_bench.forecast import forecast
from emotion_bench.loader import index_cost, latency_cost, loader_cost
from emotion_bench.loss_memory import loss_memory
from emotion_bench.report import report, results_parser
from emotion_bench.train_data import made_shards
from emotion_bench.train_page import page
from emotion_bench.train_step import measure
from emotion_train.clips.reader import ShardSet
from emotion_train.model import PRESETS

BATCH = {"nano": 16, "vit-b-32": 4}  # a step takes seconds on a CPU
STEPS = {"nano": 20, "vit-b-32": 6}
MADE_CLIPS = 24
DELAY = 0.03  # seconds of a request
INDEX = {"clips": 1_000_000, "workers": 4, "reads": 100_000}


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark and return the exit status."""
    parser = results_parser(__doc__, quick=True)
    add = parser.add_argument
    add("--batch", type=int, help=f"number of clips per step, 2 or more (default: {BATCH})")
    add("--steps", type=int, help=f"number of measured steps (default: {STEPS})")
    add("--workers", type=int, default=2, help="number of processes that load batches (default: %(default)s)")
    add("--precision", choices=("fp32", "bf16"), default="fp32", help="numeric precision (default: fp32)")
    add("--shards", type=Path, help="folder of shards written by prepare_data.py")
    args = parser.parse_args(argv)
    for name, least in (("batch", 2), ("steps", 1), ("workers", 0)):
        if (value := getattr(args, name)) is not None and value < least:
            parser.error(f"--{name} {value}: expected {least} or more")
    return report("bench_train", args.out / "train.json", partial(bench, args), page)


def bench(args: argparse.Namespace) -> dict[str, Any]:
    """Measure everything and return the content of train.json.

    Raises:
        EmotionError: The shards cannot be used.
    """
    quick, spec = args.quick, PRESETS["vit-b-32"].preprocess
    with tempfile.TemporaryDirectory() as work:
        shards = args.shards or made_shards(
            Path(work, "made"), clips=max(args.batch or 0, MADE_CLIPS), short_side=256
        )
        clips = len(ShardSet.open(str(shards)))
        presets = {name: measure_preset(name, args, shards) for name in (["nano"] if quick else BATCH)}
        print("bench_train: loader, latency, index, loss", file=sys.stderr)
        several = {"batch": min(8, clips // 2), "batches": 2 if quick else 12}
        loader = loader_cost(shards, spec, **several)
        latency = latency_cost(shards, spec, **several, delay=DELAY)
        amount = {"clips": 2000, "workers": 1, "reads": 2000} if quick else INDEX
        index = index_cost(Path(work, "index"), **amount)
    return {
        "precision": args.precision,
        "workers": args.workers,
        "quick": quick,
        "shards": {"of": "prepared clips" if args.shards else "synthetic images", "clips": clips},
        "presets": presets,
        "loader": loader,
        "latency": latency,
        "index": index,
        "loss_mib": loss_memory((256, 512) if quick else (2048, 4096, 8192)),
        "forecast": {name: forecast(preset, loader, latency) for name, preset in presets.items()},
    }


def measure_preset(preset: str, args: argparse.Namespace, shards: Path) -> dict[str, Any]:
    """Measure the training of one model in a new process, since peak memory is that of a whole process."""
    print(f"bench_train: {preset}", file=sys.stderr)
    batch, steps = (4, 3) if args.quick else (BATCH[preset], STEPS[preset])
    sizes = {"batch": args.batch or batch, "steps": args.steps or steps, "workers": args.workers}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        return pool.submit(measure, PRESETS[preset], str(shards), precision=args.precision, **sizes).result()


if __name__ == "__main__":
    sys.exit(main())
