r"""Draw where a checkpoint looks for a person, and what the loss does to a batch.

    emotion-train figures attention --checkpoint runs/nano/checkpoint.pt --image people.jpg \
        --box 120 40 260 210 --out attention.png
    emotion-train figures reweighting --checkpoint runs/nano/checkpoint.pt --data ../shared --beta 1 \
        --out reweighting.md

The checkpoint is one of `emotion-train pretrain`, or the released .pt file. The figures are:

attention: where the frame encoder looks for a person, block by block (Fig. 5).
reweighting: the logits of a clip's sentences before and after the loss considers their sentiment (Table 2).

`emotion-train reproduce` makes the tables and figures of the paper itself.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emotion_runtime.console import OneLineParser
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_train.datasets.base import SampleImage
from emotion_train.datasets.images import load_image
from emotion_train.figures.attention_maps import attention_png, crop_person, person_attention
from emotion_train.figures.reweighting import BatchSource, draw_batch, reweight, reweighting_page
from emotion_train.pretrained import Checkpoint, read_checkpoint

_log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    args.draw(args)
    _log.info("wrote %s", args.out)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(prog="emotion-train figures", description=__doc__.splitlines()[0])
    figures = parser.add_subparsers(required=True, metavar="FIGURE")
    _add_attention(figures)
    _add_reweighting(figures)
    return parser


def _add_attention(figures: Any) -> None:
    """Add the options of `attention`."""
    one = figures.add_parser("attention", help="draw where the encoder looks for a person (Fig. 5)")
    _add_common(one, attention, "PNG file to write")
    add = one.add_argument
    add("--image", type=Path, required=True, help="image file")
    add(
        "--box",
        type=float,
        nargs=4,
        required=True,
        metavar=("X1", "Y1", "X2", "Y2"),
        help="box around the person, in pixels",
    )
    add("--heads", action="store_true", help="draw a row for every attention head instead of their mean")


def _add_reweighting(figures: Any) -> None:
    """Add the options of `reweighting`."""
    one = figures.add_parser("reweighting", help="print what the loss does to the logits of a clip (Table 2)")
    _add_common(one, reweighting, "Markdown file to write")
    add = one.add_argument
    add(
        "--data",
        required=True,
        help="folder or URL of shards, or folder with data/fer2013_plus.npz and data/goemotions_ekman/",
    )
    add(
        "--beta",
        type=float,
        default=10.0,
        help="strength of the sentiment guidance (default: the paper's, %(default)s)",
    )
    add(
        "--kl-direction",
        choices=("paper", "official"),
        default="paper",
        help="direction of the divergence, as in the paper or in the official code (default: %(default)s)",
    )
    add("--rows", type=int, default=5, help="number of rows of the table (default: %(default)s)")
    add("--positive", type=int, default=0, help="index of the clip in the batch (default: %(default)s)")
    add(
        "--batch",
        type=int,
        default=32,
        help="number of clips, or of scenes with one to four people (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="random seed of the batch (default: %(default)s)")
    add("--sentiment", default="linear", help="sentiment model for scenes: linear, or a transformers model")
    add(
        "--sentence-confidence",
        type=float,
        default=0.5,
        help="least probability of a sentence's own class, for scenes (default: %(default)s)",
    )


def _add_common(parser: argparse.ArgumentParser, draw: object, what: str) -> None:
    parser.set_defaults(draw=draw)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="checkpoint of emotion-train pretrain, or the released .pt file",
    )
    parser.add_argument("--out", type=Path, required=True, help=what)


def attention(args: argparse.Namespace) -> None:
    """Draw the attention of the hmn and the cls token, one panel per block."""
    image = load_image(SampleImage(args.image, ()))
    checkpoint = read_checkpoint(args.checkpoint)
    person = crop_person(image, tuple(args.box), checkpoint.model.config.preprocess)
    maps = person_attention(checkpoint.model, person)
    write_atomically(args.out, attention_png(person, maps, describe(checkpoint), heads=args.heads))


def reweighting(args: argparse.Namespace) -> None:
    """Write and print the logits of a clip before and after the reweighting."""
    if args.batch < 1:
        raise EmotionError(f"--batch {args.batch}: expected 1 or more")
    if args.seed < 0:
        raise EmotionError(f"--seed {args.seed}: expected 0 or more")
    checkpoint = read_checkpoint(args.checkpoint)
    source = BatchSource(args.data, args.batch, args.seed, args.sentiment, args.sentence_confidence)
    pairs = draw_batch(checkpoint.model, source)
    drawn = reweight(checkpoint.model, pairs, beta=args.beta, kl_direction=args.kl_direction)
    kl = "the paper" if args.kl_direction == "paper" else "the official code"
    facts = (
        f"{describe(checkpoint)}; beta {args.beta:g}, KL as in {kl}; clip {args.positive} of a batch of "
        f"{len(pairs)}, seed {args.seed}. Sentences as the text encoder reads them."
    )
    page = reweighting_page(drawn, args.positive, args.rows, facts)
    write_atomically(args.out, page)
    print(page)


def describe(checkpoint: Checkpoint) -> str:
    """Return a description of a checkpoint in a few words."""
    config = checkpoint.model.config
    method = config.subject + (" + bias" if config.subject_bias else "")
    when = "released layout" if checkpoint.released else f"checkpoint {checkpoint.sha256[:8]}"
    return f"{checkpoint.preset}, {method}, {when}"
