r"""Pre-train EmotionCLIP.

    python train/pretrain.py --config train/configs/nano.toml --data ../shared --out runs/nano
    python train/pretrain.py --config train/configs/nano.toml --data ../shared --out runs/nano --resume
    torchrun --nproc-per-node 8 train/pretrain.py --config train/configs/emotionclip.toml \
        --data https://storage.example/shards --out runs/emotionclip

Writes into --out: checkpoint.pt (everything needed to resume, probe and export), log.jsonl (a line a step),
tensorboard/, and report.html. Killed at any moment, --resume goes on from the last checkpoint and takes the
same steps.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

from emotion_runtime.errors import EmotionError
from emotion_train.config import PretrainConfig, load_config, model_config
from emotion_train.distributed import World, joined_world
from emotion_train.model import PRESETS
from emotion_train.report import write_report
from emotion_train.run import Run


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    args = parse_args(argv)
    try:
        config = load_config(args.config)
        with joined_world() as world:
            pretrain(config, args, world)
    except EmotionError as error:
        print(f"pretrain: error: {error}", file=sys.stderr)
        return 2
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="a file of train/configs/")
    parser.add_argument(
        "--data",
        required=True,
        help="for [clips]: folder or URL of prepare_data.py's shards; for [scenes]: folder with "
        "data/fer2013.npz, data/goemotions_ekman/",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--max-steps", type=int, help="stop after this many steps, over all stages")
    return parser.parse_args(argv)


def pretrain(config: PretrainConfig, args: argparse.Namespace, world: World) -> None:
    """All stages of a run, from its beginning or its checkpoint."""
    if args.max_steps is not None and args.max_steps < 0:
        raise EmotionError(f"--max-steps {args.max_steps}: expected 0 or more")
    torch.manual_seed(config.seed)
    sizes = model_config(config.preset, config.model, PRESETS)
    run = Run(config, sizes, data=args.data, out=args.out, world=world, resume=args.resume)
    run.progress.budget = args.max_steps
    say = print if world.first else _silent
    say(
        f"pretrain: {config.preset} on {world.size} x {world.device.type}, {config.precision}; "
        f"data {args.data}; run {args.out}; {run.started_from}"
    )
    for name in run.names[run.names.index(run.progress.stage) :]:
        if run.progress.stage != name:
            run.progress.stage, run.progress.step = name, 0
        stage = run.stage(name)
        run.load_optimizer(stage)
        run.runner.run(replace(stage, evaluate=run.evaluation(name)), run.progress)
        if world.first:
            write_report(args.out, facts=run.facts())
        if run.progress.spent():
            say(f"pretrain: stopped by --max-steps in stage {name}; go on with --resume")
            return
    say(f"pretrain: done; see {args.out / 'report.html'}; next: {run.next_command()}")


def _silent(_: str) -> None:
    """The other processes say nothing."""


if __name__ == "__main__":
    sys.exit(main())
