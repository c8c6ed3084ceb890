r"""Predict the votes on each training face with networks that were trained on the others.

    emotion-train predict-votes --data ../shared --out runs/predictions.npz

Pre-training mixes them with the votes: `predictions = "runs/predictions.npz"` in its configuration. It takes
minutes on a GPU and hours on a CPU.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from emotion_runtime.console import OneLineParser
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import make_folder
from emotion_train.scenes.faces import FACES_FILE, load_faces
from emotion_train.training.cross_fit import CrossFit, cross_fitted_votes, save_predictions

_log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    for name, least in (("epochs", 1), ("seed", 0)):
        if (value := getattr(args, name)) < least:
            raise EmotionError(f"--{name} {value}: expected {least} or more")
    if args.out.is_dir():
        raise EmotionError(f"--out {args.out} is a folder: expected a file, such as predictions.npz in it")
    make_folder(args.out.parent)  # before the networks are trained, which takes hours on a CPU
    faces = load_faces(args.data / FACES_FILE, "train")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = CrossFit(folds=args.folds, epochs=args.epochs, seed=args.seed)
    predicted = cross_fitted_votes(faces, settings, device, _log.info)
    save_predictions(args.out, faces, predicted)
    _log.info("wrote %s: predictions for %d faces", args.out, len(predicted))
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(prog="emotion-train predict-votes", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder above data/fer2013_plus.npz")
    add("--out", type=Path, required=True, metavar="FILE", help="the predictions, an .npz file")
    add("--folds", type=int, default=5, metavar="N", help="networks (default: %(default)s)")
    add("--epochs", type=int, default=60, metavar="N", help="default: %(default)s")
    add("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    return parser
