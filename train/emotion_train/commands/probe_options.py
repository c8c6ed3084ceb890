"""The command-line options that `fit-probe` and `evaluate` share."""

import argparse
from pathlib import Path

from emotion_train.datasets.table import Columns
from emotion_train.probing.bootstrap import RESAMPLES
from emotion_train.probing.options import AUTO_DEVICE, ProbeOptions
from emotion_train.probing.protocol import PROTOCOLS, SEED


def add_options(parser: argparse.ArgumentParser, *, required: bool = True, bundle: bool = False) -> None:
    """Add the shared options to a parser.

    Args:
        parser: Of the command.
        required: Whether a data set must be given.
        bundle: Whether a bundle can be given instead of a checkpoint.
    """
    add = parser.add_argument
    add("--dataset", required=required, metavar="NAME", help=f"data set: one of {', '.join(PROTOCOLS)}")
    add("--data", type=Path, required=required, help="folder of the data set, or the file of a table")
    if bundle:
        add(
            "--bundle",
            metavar="NAME",
            help="name or folder of a bundle whose ONNX graphs are used instead of a checkpoint; no torch is "
            "needed for a table",
        )
    add(
        "--checkpoint",
        type=Path,
        required=not bundle,
        help="checkpoint of emotion-train pretrain, or the released .pt file",
    )
    add("--splits", nargs="+", metavar="SPLIT", help="splits to measure on (default: those of the protocol)")
    add("--features", choices=("video", "image"), help="encoder to use (default: that of the protocol)")
    add(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder in which features are stored (default: `features` beside --checkpoint, or "
        "runs/features for a bundle)",
    )
    add(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="number of processes that read images (default: 0)",
    )
    add(
        "--device",
        default=AUTO_DEVICE,
        help="torch device that computes features (default: CUDA where there is a GPU, else the CPU)",
    )
    add(
        "--resamples",
        type=int,
        default=RESAMPLES,
        metavar="N",
        help="number of bootstrap resamples (default: %(default)s)",
    )
    add("--seed", type=int, default=SEED, help="random seed (default: %(default)s)")
    _add_scene_options(parser)
    _add_table_options(parser)


def _add_scene_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("rendered scenes (--dataset scenes)").add_argument
    add("--frames", type=int, default=8, help="number of frames encoded of each test clip (default: all 8)")
    add(
        "--train-faces",
        type=int,
        default=12000,
        help="number of training clips the probe is fitted on (default: %(default)s)",
    )
    add("--test-faces", type=int, help="use only this many random validation and test faces (default: all)")
    add(
        "--votes",
        type=float,
        default=1.0,
        metavar="WEIGHT",
        help="weight of the annotators' votes against the label in what the probe is fitted on, from 0 to 1 "
        "(default: %(default)s)",
    )


def _add_table_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("table (--dataset table)", "names of its columns, where they differ")
    add = group.add_argument
    for name in ("path", "split", "start", "end", "group"):
        add(
            f"--{name}-column", default=name, metavar="COLUMN", help=f"column `{name}` (see docs/datasets.md)"
        )
    add("--box-columns", nargs="+", default=(), metavar="COLUMN", help="four columns x1 y1 x2 y2, or one")
    add("--label-columns", nargs="+", default=(), metavar="COLUMN", help="columns with class labels")
    add("--value-columns", nargs="+", default=(), metavar="COLUMN", help="columns with numbers to predict")
    add("--classes", nargs="+", default=(), metavar="LABEL", help="class labels in the order of the head")


def read_options(args: argparse.Namespace) -> ProbeOptions:
    """Return the shared options as a typed object.

    Raises:
        EmotionError: A number is out of range.
    """
    return ProbeOptions(
        dataset=args.dataset,
        data=args.data,
        checkpoint=args.checkpoint,
        bundle=getattr(args, "bundle", None),
        splits=tuple(args.splits or ()),
        features=args.features,
        cache=args.cache,
        workers=args.workers,
        device=args.device,
        resamples=args.resamples,
        seed=args.seed,
        frames=args.frames,
        train_faces=args.train_faces,
        test_faces=args.test_faces,
        votes=args.votes,
        columns=Columns(
            args.path_column,
            args.split_column,
            args.start_column,
            args.end_column,
            args.group_column,
            tuple(args.box_columns),
            tuple(args.label_columns),
            tuple(args.value_columns),
            tuple(args.classes),
        ),
    )
