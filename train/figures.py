r"""Figures of the paper from any checkpoint: of pretrain.py, or the released .pt file.

    python train/figures.py attention --checkpoint runs/nano/checkpoint.pt --image people.jpg \
        --box 120 40 260 210 --out attention.png

attention: where the frame encoder looks for a person, block by block (Fig. 5).
"""

import argparse
import sys
from pathlib import Path

from emotion_runtime.errors import EmotionError
from emotion_train.attention_maps import attention_png, maps_of, see
from emotion_train.datasets.base import Picture
from emotion_train.datasets.pictures import load_picture
from emotion_train.prepare.writer import write_file
from emotion_train.pretrained import Checkpoint, read_checkpoint
from emotion_train.probing.options import OneLineParser


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    try:
        args = parse_args(argv)
        args.draw(args)
    except EmotionError as error:
        print(f"figures: error: {error}", file=sys.stderr)
        return 2
    print(f"figures: {args.out}")
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = OneLineParser(prog="figures", description=__doc__.splitlines()[0])
    figures = parser.add_subparsers(required=True, metavar="FIGURE")
    one = figures.add_parser("attention", help="where the encoder looks for a person (Fig. 5)")
    one.set_defaults(draw=attention)
    one.add_argument(
        "--checkpoint", type=Path, required=True, help="of pretrain.py, or the released .pt file"
    )
    one.add_argument("--image", type=Path, required=True, help="a picture")
    one.add_argument(
        "--box", type=float, nargs=4, required=True, metavar=("X1", "Y1", "X2", "Y2"), help="pixels"
    )
    one.add_argument("--heads", action="store_true", help="a row for every head instead of their mean")
    one.add_argument("--out", type=Path, required=True, help="PNG file to write")
    return parser.parse_args(argv)


def attention(args: argparse.Namespace) -> None:
    """Attention of the hmn and the cls token, a panel a block."""
    picture = load_picture(Picture(args.image, ()))
    checkpoint = read_checkpoint(args.checkpoint)
    seen = see(picture, tuple(args.box), checkpoint.model.config.preprocess)
    maps = maps_of(checkpoint.model, seen)
    write(args.out, attention_png(seen, maps, describe(checkpoint), heads=args.heads))


def describe(checkpoint: Checkpoint) -> str:
    """A checkpoint in a few words."""
    config = checkpoint.model.config
    way = config.subject + (" + bias" if config.subject_bias else "")
    when = "released layout" if checkpoint.released else f"checkpoint {checkpoint.sha256[:8]}"
    return f"{checkpoint.preset}, {way}, {when}"


def write(path: Path, data: bytes) -> None:
    """A file with its folder, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EmotionError(f"--out {path}: {error.strerror}; choose a place that can be written") from error
    write_file(path, data)


if __name__ == "__main__":
    sys.exit(main())
