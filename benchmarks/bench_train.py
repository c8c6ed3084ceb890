"""Measure how fast a model trains on clips, where the time of a step goes, and what bounds it.

    python benchmarks/bench_train.py --results benchmarks/results/my-machine
    python benchmarks/bench_train.py --quick --results /tmp/train        # a quick trial

Each preset trains in a process of its own, in the loop of pretrain.py, from random weights (speed needs no
training), on shards of the videos in --data, prepared on the spot with invented captions, or of synthetic
images where there are no videos:
  data       waiting for a batch from the workers
  forward    both towers and the temporal encoder
  loss       similarities, the sentiment-guided loss and its gradient by the features
  backward   the gradient by all parameters
  optimizer  clipping and AdamW
Two bounds are measured beside them in the same process: the loader alone, without training, and the machine's
product of two square matrices. Apart from training are measured, each beside a second implementation of how
it was before:
  loader     CPU time, bytes and requests of a clip
  latency    time of a clip and worker where each request takes --delay
  index      time to open an index of --index-clips clips, and its memory in all workers
  loss       peak memory of the loss, by batch size
A run on 8 GPUs is predicted from these parts. Written to --results: train.json, train.md, train.png.
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
from emotion_bench.report import plot_bars, write_json
from emotion_bench.train_data import made_shards, real_shards
from emotion_bench.train_step import PARTS, Settings, measure
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_train.clips.reader import ShardSet
from emotion_train.model import PRESETS
from emotion_train.tables import markdown_table

ROOT = Path(__file__).resolve().parents[1]
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
    write_parts(args.results / "train.png", result["presets"])
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
    add("--data", type=Path, help="folder with videos/ and data/goemotions_ekman/ (default: ../shared)")
    add("--shards", type=Path, help="folder of shards written by prepare_data.py, instead of --data")
    add(
        "--quick",
        action="store_true",
        help="a quick trial: nano, three steps of four clips; its speeds mean nothing",
    )
    add("--results", type=Path, required=True, help="folder of train.json, train.md, train.png")
    args = parser.parse_args(argv)
    args.presets = args.presets or (["nano"] if args.quick else sorted(BATCH))
    if args.quick:
        args.batch, args.steps = args.batch or 4, args.steps or 3
    args.index_clips = args.index_clips or (2 if args.quick else 1000)
    return args


def bench(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Measure all presets and return the content of train.json.

    Raises:
        EmotionError: An option is out of range, or the data cannot be used.
    """
    for name, value, least in (("batch", args.batch, SMALLEST_BATCH), ("steps", args.steps, 1)):
        if value is not None and value < least:
            raise EmotionError(f"--{name} {value}: expected {least} or more")
    if args.workers < 0:
        raise EmotionError(f"--workers {args.workers}: expected 0 or more")
    if args.data and args.shards:
        raise EmotionError("--data and --shards are both given: expected one of them, or neither")
    shards, made_of = _shards(args, work)
    clips = len(ShardSet.open(str(shards)))
    presets = {}
    for preset in args.presets:
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
            presets[preset] = pool.submit(measure, PRESETS[preset], settings).result()
    apart = scale_parts(args, shards, work)
    return {
        "benchmark": "train",
        "machine": card(),
        "precision": args.precision,
        "workers": args.workers,
        "quick": args.quick,
        "shards": {"of": made_of, "clips": clips},
        "presets": presets,
        **apart,
        "forecast": {name: forecast(preset, apart["loader"]) for name, preset in presets.items()},
    }


def scale_parts(args: argparse.Namespace, shards: Path, work: Path) -> dict[str, Any]:
    """Measure loading, the index and the memory of the loss, each beside how it was before."""
    print("bench_train: loader, latency, index, loss", file=sys.stderr)
    spec = PRESETS["vit-b-32"].preprocess
    batch = min(8, len(ShardSet.open(str(shards))) // 2)
    batches = 2 if args.quick else 12
    return {
        "loader": loader_cost(shards, spec, batch=batch, batches=batches),
        "latency": latency_cost(shards, spec, batch=batch, batches=batches, delay=args.delay),
        "index": index_cost(
            work / "index",
            clips=1000 * args.index_clips,
            workers=1 if args.quick else 4,
            reads=2000 if args.quick else 100_000,
        ),
        "loss_mib": loss_memory((256, 512) if args.quick else (2048, 4096, 8192)),
    }


def _shards(args: argparse.Namespace, work: Path) -> tuple[Path, str]:
    """Return the folder of shards and a description of their content."""
    if args.shards:
        return args.shards, "prepared clips"
    data = args.data
    if data is None and not args.quick and (ROOT.parent / "shared" / "videos").is_dir():
        data = ROOT.parent / "shared"
    if data:
        print(f"bench_train: preparing the videos of {data}, which takes some minutes", file=sys.stderr)
        return real_shards(data, work, workers=max(args.workers, 1)), "real videos"
    print("bench_train: clips of synthetic images", file=sys.stderr)
    needed = max(args.batch or max(BATCH.values()), 24)
    return made_shards(work / "made", clips=needed, short_side=256), "synthetic images"


def page(result: dict[str, Any]) -> str:
    """Return train.md for a result."""
    machine, presets = result["machine"], result["presets"]
    rows = [
        ["clips per second", *(f"{p['clips_per_s']['mean']:.2f}" for p in presets.values())],
        ["clips per step, frames per clip", *(f"{p['batch']}, {p['frames']}" for p in presets.values())],
        *(
            [f"{part}, ms per step", *(_part(p["ms_per_step"], part) for p in presets.values())]
            for part in (*PARTS, "whole")
        ),
        [
            "clips per second of the loader alone",
            *(f"{p['clips_per_s_of_loader_alone']:.1f}" for p in presets.values()),
        ],
        ["GFLOP per clip", *(f"{p['gflop_per_clip']:.2f}" for p in presets.values())],
        ["matrix product, GFLOP/s", *(f"{p['matmul_gflop_per_s']:.1f}" for p in presets.values())],
        [
            "FLOP/s of the model, fraction of that",
            *(f"{100 * p['model_flops_share']:.1f} %" for p in presets.values()),
        ],
        ["peak memory, MiB", *(f"{p['memory_mib']['peak']:.0f}" for p in presets.values())],
        ["of which before the model, MiB", *(f"{p['memory_mib']['before']:.0f}" for p in presets.values())],
        ["bytes per clip from worker to trainer", *(_bytes(p, "ours") for p in presets.values())],
        ["bytes as float images and masks", *(_bytes(p, "plain") for p in presets.values())],
        ["ratio", *(f"{p['bytes_per_clip']['times_less']:.1f}" for p in presets.values())],
    ]
    facts = (
        f"{machine['cpu']}, {machine['cores']} cores, GPU: {machine['gpu'] or 'none'}; torch "
        f"{machine['torch']}, {result['precision']}, {result['workers']} workers; "
        f"{result['shards']['clips']} clips of {result['shards']['of']}. Data: waiting for workers."
    )
    quick = " A quick trial: its speeds mean nothing." if result["quick"] else ""
    memory = next(iter(presets.values()))["memory_is_of"]
    table = markdown_table(["", *presets], rows)
    apart = "\n\n".join((_scale_table(result), _forecast_table(result)))
    return f"# Training on clips\n\n{facts}{quick} Memory is of {memory}.\n\n{table}\n\n{apart}\n"


def _scale_table(result: dict[str, Any]) -> str:
    loader, latency, index = result["loader"], result["latency"], result["index"]
    rows = [
        ["CPU of a clip, ms", loader["cpu_ms_per_clip"], loader["cpu_ms_per_clip_before"]],
        [
            f"time of a clip and worker at {latency['delay_ms']:.0f} ms a request, ms",
            latency["ms_per_clip"],
            latency["ms_per_clip_before"],
        ],
        [
            f"sent to each worker for {index['clips']:,} clips, kB",
            index["pickled_bytes_per_worker"] / 1e3,
            index["pickled_bytes_per_worker_before"] / 1e3,
        ],
        *(
            [f"peak memory of the loss of {batch} pairs, MiB", now, result["loss_mib"]["before"][batch]]
            for batch, now in result["loss_mib"]["now"].items()
        ),
    ]
    table = markdown_table(["", "now", "before"], [[name, f"{a:,.1f}", f"{b:,.1f}"] for name, a, b in rows])
    return (
        f"## Loading, the index and the loss\n\nA clip takes {loader['bytes_per_clip']:,.0f} bytes in "
        f"{loader['requests_per_clip']:.1f} requests. The index of {index['clips']:,} clips opens in "
        f"{index['seconds_to_open']:.2f} s ({index['seconds_to_open_first']:.1f} s without index.bin) and "
        f"takes {index['pss_mib_all_workers']:.1f} MiB in {index['workers']} workers together.\n\n{table}"
    )


def _forecast_table(result: dict[str, Any]) -> str:
    found = result["forecast"]
    first = next(iter(found.values()))
    rows = [
        [title, *(f"{f[key]:,.1f}" for f in found.values())]
        for key, title in (
            ("clips_per_s", "clips per second"),
            ("hours_per_epoch", "hours per epoch"),
            ("days", "days in all"),
            ("workers_per_gpu", "workers per device"),
            ("mb_per_s", "MB per second read"),
            ("requests_per_s", "requests per second"),
        )
    ]
    return (
        f"## Prediction: {first['gpus']} devices like this one, {first['clips']:,} clips, {first['epochs']} "
        f"epochs\n\nFrom the parts above. Not measured, and left out: {'; '.join(first['not_measured'])}.\n\n"
        f"{markdown_table(['', *found], rows)}"
    )


def _part(parts: dict[str, float], name: str) -> str:
    return f"{parts[name]:.1f} ({100 * parts[name] / parts['whole']:.1f} %)"


def _bytes(preset: dict[str, Any], name: str) -> str:
    return f"{preset['bytes_per_clip'][name]:,.0f}"


def write_parts(path: Path, presets: dict[str, Any]) -> None:
    """Write a plot with one bar per preset: how the time of a step is divided."""
    fractions = {
        name: {part: 100 * p["ms_per_step"][part] / p["ms_per_step"]["whole"] for part in PARTS}
        for name, p in presets.items()
    }
    plot_bars(path, fractions, "% of a training step")


if __name__ == "__main__":
    sys.exit(main())
