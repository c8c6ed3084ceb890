"""What `emotion-train fit-probe` and `evaluate` share: options, and where features come from."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from emotion_runtime.errors import EmotionError
from emotion_train.datasets import load_dataset
from emotion_train.datasets.base import Task
from emotion_train.datasets.table import Columns
from emotion_train.pretrained import Checkpoint, read_checkpoint
from emotion_train.probing import scene_probe as scenes
from emotion_train.probing.bootstrap import LEVEL, RESAMPLES
from emotion_train.probing.calibration import BINS
from emotion_train.probing.classifiers import MAX_ITER, RIDGE_ALPHA, SOLVER
from emotion_train.probing.protocol import PROTOCOLS, SEED, Protocol, protocol_of
from emotion_train.probing.run import ProtocolResult, SetLoader
from emotion_train.probing.samples import Encoding, features_of


@dataclass(frozen=True, slots=True)
class ProbeSetup:
    """Where features come from. tasks: what can be predicted. load_set: split (and seed) -> features."""

    checkpoint: Checkpoint
    encoding: Encoding
    protocol: Protocol
    tasks: tuple[Task, ...]
    load_set: SetLoader
    plan: scenes.ScenePlan | None  # only scenes have one


def add_options(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Options of both scripts. required: a data set must be given."""
    add = parser.add_argument
    add("--dataset", required=required, metavar="NAME", help=f"one of {', '.join(PROTOCOLS)}")
    add("--data", type=Path, required=required, help="folder of the data set, or the file of a table")
    add("--checkpoint", type=Path, required=True, help="of emotion-train pretrain, or the released .pt file")
    add("--splits", nargs="+", metavar="SPLIT", help="measured (default: those of the protocol)")
    add("--features", choices=("video", "image"), help="of which encoder (default: the protocol's)")
    add("--cache", type=Path, metavar="DIR", help="kept features (default: `features` beside --checkpoint)")
    add("--workers", type=int, default=0, metavar="N", help="processes that read pictures (default: none)")
    add("--device", default="cpu", help="of torch, on which features are computed (default: %(default)s)")
    add(
        "--resamples",
        type=int,
        default=RESAMPLES,
        metavar="N",
        help="of the bootstrap (default: %(default)s)",
    )
    add("--seed", type=int, default=SEED, help="(default: %(default)s)")
    drawn = parser.add_argument_group("scenes")
    drawn.add_argument("--frames", type=int, default=8, help="frames encoded of each test clip (of 8)")
    drawn.add_argument("--train-faces", type=int, default=12000, help="training clips the probe is fitted on")
    drawn.add_argument("--test-faces", type=int, help="use only N random validation and test faces")
    table = parser.add_argument_group("table", "what its columns are called, where the name is another")
    for name in ("path", "split", "start", "end", "group"):
        table.add_argument(f"--{name}-column", default=name, metavar="COLUMN")
    table.add_argument("--box-columns", nargs="+", default=(), metavar="COLUMN", help="x1 y1 x2 y2, or one")
    table.add_argument("--label-columns", nargs="+", default=(), metavar="COLUMN")
    table.add_argument("--value-columns", nargs="+", default=(), metavar="COLUMN")
    table.add_argument("--classes", nargs="+", default=(), metavar="LABEL", help="in the order of the head")


def open_source(args: argparse.Namespace, *, fitting: bool = False) -> ProbeSetup:
    """The checkpoint and the data set that the command line names.

    fitting: the splits that are fitted on are needed as well. Every split that is needed is read before the
    first picture of any is looked at.

    Raises:
        EmotionError: one of them is missing or broken, or an option is out of range.

    """
    for name in ("frames", "train_faces", "test_faces", "resamples"):
        if (number := getattr(args, name)) is not None and number < 1:
            raise EmotionError(f"--{name.replace('_', '-')} {number}: expected 1 or more")
    if args.workers < 0:
        raise EmotionError(f"--workers {args.workers}: expected 0 or more")
    protocol = protocol_of(args.dataset)
    if args.splits:
        protocol = replace(protocol, measured=tuple(dict.fromkeys(args.splits)))
    if args.features:
        protocol = replace(protocol, features=args.features)
    checkpoint = read_checkpoint(args.checkpoint)
    checkpoint.model.to(_device(args.device))
    encoding = Encoding(
        checkpoint.model,
        checkpoint.sha256,
        protocol.features,
        args.cache or args.checkpoint.parent / "features",
        args.workers,
    )
    if args.dataset == "scenes":
        return _scenes(args, checkpoint, encoding, protocol)
    columns = _columns(args) if args.dataset == "table" else None
    needed = protocol.splits if fitting else protocol.measured
    sets = {split: load_dataset(args.dataset, args.data, split, columns) for split in needed}
    features = cache(lambda split: features_of(sets[split], encoding))
    tasks = sets[protocol.measured[0]].tasks
    return ProbeSetup(checkpoint, encoding, protocol, tasks, lambda split, _: features(split), None)


def _scenes(
    args: argparse.Namespace, checkpoint: Checkpoint, encoding: Encoding, protocol: Protocol
) -> ProbeSetup:
    unknown = [name for name in protocol.splits if name not in scenes.SETS]
    if unknown:
        raise EmotionError(f"scenes has no set {', '.join(unknown)}: choose of {', '.join(scenes.SETS)}")
    if protocol.features != "video":
        raise EmotionError("scenes are clips: expected --features video")
    plan = scenes.ScenePlan(
        args.data / "data" / "fer2013.npz",
        args.frames,
        {"train": args.train_faces, "val": args.test_faces, "test": args.test_faces},
    )
    load_set = cache(lambda name, seed: scenes.scene_set(name, plan, encoding, seed))
    return ProbeSetup(checkpoint, encoding, protocol, (scenes.TASK,), load_set, plan)


def _columns(args: argparse.Namespace) -> Columns:
    return Columns(
        args.path_column,
        args.split_column,
        args.start_column,
        args.end_column,
        args.group_column,
        tuple(args.box_columns),
        tuple(args.label_columns),
        tuple(args.value_columns),
        tuple(args.classes),
    )


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: what a build without CUDA raises
        reason = str(error).splitlines()[0]
        raise EmotionError(
            f"--device {name} cannot be used ({reason}): take cpu, or mend its driver"
        ) from error
    return device


def describe(setup: ProbeSetup, args: argparse.Namespace) -> dict[str, Any]:
    """Where features come from and how they are measured, for a report."""
    spec = setup.encoding.spec
    return {
        "checkpoint": args.checkpoint.name,
        "checkpoint_sha256": setup.checkpoint.sha256,
        "preset": setup.checkpoint.preset,
        "features": f"{setup.encoding.kind}, L2-normalised",
        "window": f"{spec.window}, {spec.size} px",
        "intervals": (
            f"the middle {100 * LEVEL:.0f} % of {args.resamples} bootstrap resamples of whole groups, "
            f"seed {args.seed}"
        ),
        "calibration_error": f"{BINS} equal bins",
    }


def describe_fit(setup: ProbeSetup, seeds: Sequence[int], outcome: ProtocolResult) -> dict[str, Any]:
    """How heads were fitted, for a report."""
    return {
        "fitted_on": setup.protocol.fit,
        "temperature_from": setup.protocol.tune,
        "classifiers": (
            f"scikit-learn {version('scikit-learn')}: logistic regression ({SOLVER}, at most {MAX_ITER} "
            f"iterations), one against the rest for several labels; ridge, alpha {RIDGE_ALPHA:g}, for values"
        ),
        "c": {head.task.name: head.c for head in outcome.heads if head.c is not None},
        "seeds": list(seeds),
    }
