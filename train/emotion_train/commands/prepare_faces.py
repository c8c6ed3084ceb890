r"""Build the file of labelled faces that training on rendered scenes reads.

    emotion-train prepare-faces --fer2013 fer2013.csv --votes fer2013new.csv --out DATA
    emotion-train prepare-faces --folder faces --out DATA

Writes DATA/data/fer2013_plus.npz. fer2013.csv comes from Kaggle's "Challenges in Representation Learning" and
states no licence (research use); fer2013new.csv, the votes, from github.com/microsoft/FERPlus (MIT). A folder
of your own has one folder for each emotion, or these inside train, val and test; trained on images that you
may use, the weights are yours to use too.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from emotion_runtime.console import OneLineParser
from emotion_runtime.errors import EmotionError
from emotion_train.scenes.face_archive import read_fer2013, read_folder, write_archive
from emotion_train.scenes.faces import FACES_FILE

_log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    if bool(args.folder) == bool(args.fer2013) or bool(args.fer2013) != bool(args.votes):
        raise EmotionError("expected either --folder, or --fer2013 and --votes")
    faces, names = (read_folder(args.folder), []) if args.folder else read_fer2013(args.fer2013, args.votes)
    counts = write_archive(args.out / FACES_FILE, faces, names)
    numbers = ", ".join(f"{count} {split}" for split, count in counts.items())
    _log.info("wrote %s: %s faces", args.out / FACES_FILE, numbers)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(prog="emotion-train prepare-faces", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--fer2013", type=Path, metavar="CSV", help="fer2013.csv from Kaggle: emotion, pixels, Usage")
    add("--votes", type=Path, metavar="CSV", help="fer2013new.csv of FER+: the votes on the same rows")
    add("--folder", type=Path, metavar="DIR", help="folder of images with one folder for each emotion")
    add("--out", type=Path, required=True, help="data folder; data/fer2013_plus.npz is written in it")
    return parser
