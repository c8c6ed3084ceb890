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
from pathlib import Path

import torch

from emotion_runtime.errors import EmotionError
from emotion_train.model import PRESETS
from emotion_train.training.config import PretrainConfig, load_config, model_config
from emotion_train.training.parallel import World, joined_world
from emotion_train.training.run import Run


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
    say = _say if world.first else _say_nothing
    say(
        f"{config.preset} on {world.size} x {world.device.type}, {config.precision}; data {args.data}; "
        f"run {args.out}; {run.started_from}"
    )
    run.train(max_steps=args.max_steps, say=say)


def _say(line: str) -> None:
    print(f"pretrain: {line}")


def _say_nothing(_: str) -> None:
    """The other processes are silent."""
