r"""How fast a model trains on clips, where a step's time goes, and what bounds it.

    python benchmarks/bench_train.py --results benchmarks/results/my-machine
    python benchmarks/bench_train.py --quick --results /tmp/train        # does it run?

Each preset trains in a process of its own, in the loop of pretrain.py, from random weights (speed needs no
training), on shards of the videos in --data, prepared on the spot with made-up captions, or of made pictures
where there are none:
  data       the trainer waits for a batch of its workers
  forward    both towers and the temporal encoder
  loss       similarities, the sentiment-guided loss and its gradient by the features
  backward   the gradient by all parameters
  optimizer  clipping and AdamW
Beside them their ceilings: the loader with nobody who trains, and the machine's product of two square
matrices, measured in the same process. Written to --results: train.json, train.md, train.png.
"""

import argparse
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

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
BATCH = {"nano": 16, "vit-b-32": 4}  # what a CPU takes in seconds
STEPS = {"nano": 20, "vit-b-32": 6}
SMALLEST = 2  # clips of a batch: of one there is nothing to tell apart


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
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
    """The command line; --quick changes what is not given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--presets", nargs="+", choices=sorted(PRESETS), help="default: all of them")
    add("--batch", type=int, help=f"clips of a step (default: {BATCH})")
    add("--steps", type=int, help=f"measured steps (default: {STEPS})")
    add("--workers", type=int, default=2, help="processes that decode batches (default: %(default)s)")
    add("--precision", choices=("fp32", "bf16"), default="fp32")
    add("--data", type=Path, help="folder with videos/ and data/goemotions_ekman/ (default: ../shared)")
    add("--shards", type=Path, help="what prepare_data.py made, instead of --data")
    add("--quick", action="store_true", help="nano, three steps of four clips: structure, not speed")
    add("--results", type=Path, required=True, help="folder of train.json, train.md, train.png")
    args = parser.parse_args(argv)
    args.presets = args.presets or (["nano"] if args.quick else sorted(PRESETS))
    if args.quick:
        args.batch, args.steps = args.batch or 4, args.steps or 3
    return args


def bench(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All figures of all presets.

    Raises:
        EmotionError: an option is out of range, or the data cannot be used.

    """
    for name, value, least in (("batch", args.batch, SMALLEST), ("steps", args.steps, 1)):
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
        # A process of its own: memory is a high-water mark, and of one preset.
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
            presets[preset] = pool.submit(measure, PRESETS[preset], settings).result()
    return {
        "benchmark": "train",
        "machine": card(),
        "precision": args.precision,
        "workers": args.workers,
        "quick": args.quick,
        "shards": {"of": made_of, "clips": clips},
        "presets": presets,
    }


def _shards(args: argparse.Namespace, work: Path) -> tuple[Path, str]:
    """The shards, and what they show."""
    if args.shards:
        return args.shards, "prepared clips"
    data = args.data
    if data is None and not args.quick and (ROOT.parent / "shared" / "videos").is_dir():
        data = ROOT.parent / "shared"
    if data:
        print(f"bench_train: preparing the videos of {data}, some minutes", file=sys.stderr)
        return real_shards(data, work, workers=max(args.workers, 1)), "real videos"
    print("bench_train: clips of made pictures", file=sys.stderr)
    needed = max(args.batch or max(BATCH.values()), 24)
    return made_shards(work / "made", clips=needed, short_side=256), "made pictures"


def page(result: dict[str, Any]) -> str:
    """The table, in Markdown."""
    machine, presets = result["machine"], result["presets"]
    rows = [
        ["clips a second", *(f"{p['clips_per_s']['mean']:.2f}" for p in presets.values())],
        ["clips of a step, frames of a clip", *(f"{p['batch']}, {p['frames']}" for p in presets.values())],
        *(
            [f"{part}, ms a step", *(_part(p["ms_per_step"], part) for p in presets.values())]
            for part in (*PARTS, "whole")
        ),
        [
            "clips a second of the loader alone",
            *(f"{p['clips_per_s_of_loader_alone']:.1f}" for p in presets.values()),
        ],
        ["GFLOP a clip", *(f"{p['gflop_per_clip']:.2f}" for p in presets.values())],
        ["matrix product, GFLOP/s", *(f"{p['matmul_gflop_per_s']:.1f}" for p in presets.values())],
        [
            "the model's FLOP/s, share of that",
            *(f"{100 * p['model_flops_share']:.1f} %" for p in presets.values()),
        ],
        ["peak memory, MiB", *(f"{p['memory_mib']['peak']:.0f}" for p in presets.values())],
        ["of it before the model, MiB", *(f"{p['memory_mib']['before']:.0f}" for p in presets.values())],
        ["bytes a clip from worker to trainer", *(_bytes(p, "ours") for p in presets.values())],
        ["as float pictures and masks", *(_bytes(p, "plain") for p in presets.values())],
        ["times as many", *(f"{p['bytes_per_clip']['times_less']:.1f}" for p in presets.values())],
    ]
    facts = (
        f"{machine['cpu']}, {machine['cores']} cores, GPU: {machine['gpu'] or 'none'}; torch "
        f"{machine['torch']}, {result['precision']}, {result['workers']} workers; "
        f"{result['shards']['clips']} clips of {result['shards']['of']}. Data: waiting for the workers."
    )
    quick = " A quick run: structure, not speed." if result["quick"] else ""
    memory = next(iter(presets.values()))["memory_is_of"]
    table = markdown_table(["", *presets], rows)
    return f"# Training on clips\n\n{facts}{quick} Memory is of {memory}.\n\n{table}\n"


def _part(parts: dict[str, float], name: str) -> str:
    return f"{parts[name]:.1f} ({100 * parts[name] / parts['whole']:.1f} %)"


def _bytes(preset: dict[str, Any], name: str) -> str:
    return f"{preset['bytes_per_clip'][name]:,.0f}"


def write_parts(path: Path, presets: dict[str, Any]) -> None:
    """A bar a preset: how a step's time is shared out."""
    shares = {
        name: {part: 100 * p["ms_per_step"][part] / p["ms_per_step"]["whole"] for part in PARTS}
        for name, p in presets.items()
    }
    plot_bars(path, shares, "% of a training step")


if __name__ == "__main__":
    sys.exit(main())
