"""Make a table or figure of the paper, with 95 % intervals and the paper's numbers beside.

    emotion-train reproduce table1 --data DATA --out runs/paper
    emotion-train reproduce table4 --data DATA --checkpoint emotionclip_latest.pt --out runs/paper

DATA is a folder with the shards of `emotion-train prepare-data` in `shards`, others for retrieval in
`held-out` (optional), and the labelled data sets in folders of their names: `bold`, `moviegraphs`, `meld`,
`emotic`, `liris`. With a table of your own, `table.csv`, the comparisons are measured on it, not on `bold`.

table1: components of the method. table3: which encoders are trained. fig6: strengths of the reweighting. Each
trains all its variants at --scale; those that are finished are not trained again.
table2, fig4: logits before and after reweighting. table4: all data sets. fig5: attention of the first layers.
Each is of --checkpoint, or of the paper's model trained at --scale.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from emotion_runtime.console import OneLineParser
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import make_folder, write_atomically
from emotion_train.figures.attention_maps import frames_png
from emotion_train.model import EmotionCLIP
from emotion_train.probing.bootstrap import RESAMPLES
from emotion_train.reproduce.pages import (
    attention_of_clip,
    attention_page,
    comparison_page,
    published_page,
    reweighted_batch,
    reweighting,
    reweighting_bars,
    sweep_png,
)
from emotion_train.reproduce.training import (
    Plan,
    labelled_sets,
    metrics_of,
    model_at,
    probe,
    train_and_measure,
    whole_model,
)
from emotion_train.reproduce.variants import FIGURE_6, TABLE_1, TABLE_3

_log = logging.getLogger(__name__)

_COMPARISONS = {
    "table1": ("Table 1: components of the method", TABLE_1),
    "table3": ("Table 3: text encoder, frame encoder, temporal encoder", TABLE_3),
    "fig6": ("Fig. 6: strength of the reweighting", FIGURE_6),
}
_DATASETS = ("bold", "moviegraphs", "emotic", "meld", "liris")
_BETAS = (0, 1, 10, 100)


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    if args.resamples < 0:
        raise EmotionError(f"--resamples {args.resamples}: expected 0 or more")
    if args.name in _COMPARISONS and args.checkpoint:
        raise EmotionError(f"--checkpoint: {args.name} compares models that it trains; leave it out")
    if not args.data.is_dir():
        raise EmotionError(f"--data {args.data}: no such folder; expected one with shards/ and labelled data")
    make_folder(args.out)  # before anything is computed
    if args.name in _COMPARISONS:
        _compare(args)
    else:
        _of_one_model(args)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(prog="emotion-train reproduce", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "name",
        choices=(*_COMPARISONS, "table2", "table4", "fig4", "fig5"),
        help="table or figure of the paper",
    )
    add("--data", type=Path, required=True, help="folder with shards/ and folders of the data sets")
    add("--out", type=Path, required=True, help="folder of the pages, and of the runs in runs/")
    add(
        "--checkpoint", type=Path, help="for table2, table4, fig4 and fig5 (default: train the paper's model)"
    )
    add(
        "--scale",
        choices=("paper", "small", "tiny"),
        default="paper",
        help="paper: the authors' recipe; small: one epoch in batches of 32; tiny: two epochs of a tiny "
        "model of random weights, which only shows that everything works (default: %(default)s)",
    )
    add("--resamples", type=int, default=RESAMPLES, help="bootstrap resamples (default: %(default)s)")
    return parser


def plan_of(args: argparse.Namespace) -> Plan:
    """Return what the variants are trained and measured on.

    Raises:
        EmotionError: The folder lacks shards, or a labelled data set.
    """
    table = args.data / "table.csv"
    labelled = ("table", table) if table.is_file() else ("bold", args.data / "bold")
    held_out = args.data / "held-out"
    for path, what in ((args.data / "shards", "shards of emotion-train prepare-data"), (labelled[1], "BoLD")):
        if not path.exists():
            raise EmotionError(f"--data {args.data}: no {path.name} in it; expected {what} there")
    return Plan(
        shards=args.data / "shards",
        held_out=held_out if held_out.is_dir() else None,
        dataset=labelled[0],
        labelled=labelled[1],
        scale=args.scale,
        out=args.out / "runs" / args.scale,
        resamples=args.resamples,
    )


def _compare(args: argparse.Namespace) -> None:
    plan = plan_of(args)
    title, variants = _COMPARISONS[args.name]
    rows = train_and_measure(plan, variants)
    image = sweep_png(rows, _BETAS, title) if args.name == "fig6" else None
    _write(args, comparison_page(title, _facts(args, plan.dataset), rows), image)


def _of_one_model(args: argparse.Namespace) -> None:
    if args.name == "table4":
        _all_datasets(args)
        return
    shards = plan_of(args).shards if not args.checkpoint else args.data / "shards"
    model = _model(args)
    if args.name == "fig5":
        frames = attention_of_clip(model, shards)
        image = frames_png(frames, "Fig. 5: attention of the hmn token")
        _write(args, attention_page(frames, _facts(args)), image)
        return
    batch = reweighted_batch(model, shards)
    bars = reweighting_bars(batch) if args.name == "fig4" else None
    _write(args, reweighting(batch, _facts(args)), bars)


def _all_datasets(args: argparse.Namespace) -> None:
    found = {name: args.data / name for name in _DATASETS if (args.data / name).exists()}
    if (args.data / "table.csv").is_file():
        found["table"] = args.data / "table.csv"
    if not found:
        raise EmotionError(f"--data {args.data}: none of the folders {', '.join(_DATASETS)} is in it")
    for name, path in found.items():
        labelled_sets(name, path)  # mistakes surface before the training
    model = _model(args)
    results = {name: metrics_of(probe(model, name, path, args.resamples)) for name, path in found.items()}
    _write(args, published_page("Table 4: all data sets", _facts(args, ", ".join(found)), results))


def _model(args: argparse.Namespace) -> EmotionCLIP:
    return model_at(args.checkpoint or whole_model(plan_of(args)))


def _facts(args: argparse.Namespace, measured_on: str = "") -> str:
    """Return where the numbers come from."""
    of = f"checkpoint {args.checkpoint}" if args.checkpoint else f"trained at scale `{args.scale}`"
    nothing = " What a model of this scale learns means nothing." if args.scale == "tiny" else ""
    measured = (
        f"; measured on {measured_on}, with 95 % intervals of {args.resamples} resamples"
        if measured_on
        else ""
    )
    return f"Data: {args.data}; {of}{measured}.{nothing if not args.checkpoint else ''}"


def _write(args: argparse.Namespace, page: str, image: bytes | None = None) -> None:
    """Write and print the page, with its image if it has one."""
    path = args.out / f"{args.name}.md"
    if image is not None:
        write_atomically(path.with_suffix(".png"), image)
        page += f"\n![{args.name}]({args.name}.png)\n"
    write_atomically(path, page)
    print(page)
    _log.info("wrote %s", path)
