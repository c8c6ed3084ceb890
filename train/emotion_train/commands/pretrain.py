r"""Pre-train EmotionCLIP on rendered scenes or on clips of video.

    emotion-train pretrain --config nano --data ../shared --out runs/nano
    emotion-train pretrain --config nano --data ../shared --out runs/nano --resume
    torchrun --nproc-per-node 8 train/pretrain.py --config emotionclip \
        --data https://storage.example/shards --out runs/emotionclip

Writes into --out: checkpoint.pt (everything needed to resume, probe and export), log.jsonl (one line per
step), tensorboard/ and report.html; with [clips] also epoch-*.pt, best.pt (with [probe]) and skipped.jsonl
(clips that cannot be read). A run that was stopped at any moment continues with --resume from its last
checkpoint, and takes the same steps. SIGTERM and SIGUSR1 end it after its step with a checkpoint. With
--resume auto the same command begins a run and continues it, for batch systems that start a job again.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch

from emotion_runtime.console import OneLineParser
from emotion_runtime.errors import EmotionError
from emotion_train.model import PRESETS
from emotion_train.training.config import PretrainConfig
from emotion_train.training.config_files import find_config, load_config, model_config, shipped_configs
from emotion_train.training.parallel import World, joined_world
from emotion_train.training.preemption import Preemption, noting_signals
from emotion_train.training.run import CHECKPOINT, Run
from emotion_train.training.start import follow_clip

_log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    config = load_config(find_config(args.config))
    if args.predictions:
        config = msgspec.structs.replace(config, predictions=args.predictions)
    with noting_signals() as preemption, joined_world() as world:
        if not world.first:
            _log.setLevel(logging.ERROR)  # one process reports for all
        pretrain(config, args, world, preemption)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(prog="emotion-train pretrain", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config",
        required=True,
        metavar="NAME|FILE.toml",
        help=f"configuration: one of {', '.join(shipped_configs())}, or the path of a file",
    )
    parser.add_argument(
        "--data",
        required=True,
        help="for [clips]: folder or URL of shards, as emotion-train prepare-data writes them; for [scenes]: "
        "folder with data/fer2013_plus.npz and data/goemotions_ekman/",
    )
    parser.add_argument(
        "--predictions",
        metavar="FILE",
        help="for [scenes]: mix the votes on the faces with predictions of `emotion-train predict-votes`",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the run")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        choices=["auto"],
        help="continue from the checkpoint in --out; with 'auto', begin if there is none, and take an "
        "earlier checkpoint if the latest cannot be read",
    )
    parser.add_argument("--max-steps", type=int, help="stop after this many steps, counted over all stages")
    return parser


def pretrain(config: PretrainConfig, args: argparse.Namespace, world: World, preemption: Preemption) -> None:
    """Train all stages of a run, from the beginning or from its checkpoint."""
    if args.max_steps is not None and args.max_steps < 0:
        raise EmotionError(f"--max-steps {args.max_steps}: expected 0 or more")
    torch.manual_seed(config.seed)
    sizes = follow_clip(model_config(config.preset, config.model, PRESETS), config.start, config.model)
    run = Run(
        config,
        sizes,
        data=args.data,
        out=args.out,
        world=world,
        resume=args.resume,
    )
    _log.info(
        "%s on %d x %s, %s; data %s; run %s; %s",
        config.preset,
        world.size,
        world.device.type,
        config.precision,
        args.data,
        args.out,
        run.started_from,
    )
    stopped_in = run.train(max_steps=args.max_steps, preempted=lambda: preemption.signal)
    if stopped_in:
        cause = run.progress.stopped_by or "--max-steps"
        _log.info("stopped by %s in stage %s; continue with --resume", cause, stopped_in)
    else:
        _log.info("done; see %s; next: %s", args.out / "report.html", next_command(config, args))


def next_command(config: PretrainConfig, args: argparse.Namespace) -> str:
    """Return the command that measures what the run has learned."""
    dataset, data = ("scenes", args.data) if config.scenes else ("NAME", "PATH")
    return (
        f"emotion-train fit-probe --dataset {dataset} --data {data} "
        f"--checkpoint {args.out / CHECKPOINT} --out {args.out / 'probe'}"
    )
