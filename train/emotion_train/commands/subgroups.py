r"""Measure for whom a model is right: its accuracy by columns of your own labelled table.

    emotion-train subgroups --data people.csv --columns age_band lighting --out runs/subgroups

The table is CSV or Parquet with a row per face: `path` (an image, or a video with the column `time` in
seconds), `label` (an emotion of the head), optionally a box around the head in pixels (`x1 y1 x2 y2`, `x y w
h` or `box`) and `group` (the person or the video; intervals resample whole groups), and any other columns.
Paths are relative to the table. Writes subgroups.md and subgroups.json to --out. Needs no torch.
"""

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from emotion_runtime.console import OneLineParser
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import make_folder, write_atomically
from emotion_train.probing.bootstrap import RESAMPLES
from emotion_train.probing.subgroup_rows import RowColumns, predict_rows
from emotion_train.probing.subgroups import measure_groups, page

_log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    if args.resamples < 0:
        raise EmotionError(f"--resamples {args.resamples}: expected 0 or more")
    if args.seed < 0:
        raise EmotionError(f"--seed {args.seed}: expected 0 or more")
    make_folder(args.out)  # before the rows are predicted, which can take hours
    columns = RowColumns(
        path=args.path_column,
        label=args.label_column,
        time=args.time_column,
        group=args.group_column,
        box=tuple(args.box_columns),
        measured=tuple(args.columns),
    )
    rows = predict_rows(args.data, columns, bundle=args.bundle, detector=args.detector)
    results = measure_groups(rows, resamples=args.resamples, seed=args.seed)
    text = page(results, rows, bundle=args.bundle, table=args.data.name)
    found = {
        "bundle": args.bundle,
        "table": args.data.name,
        "skipped": dict(rows.skipped),
        "results": [asdict(result) for result in results],
    }
    write_atomically(args.out / "subgroups.json", json.dumps(found, indent=2) + "\n")
    write_atomically(args.out / "subgroups.md", text)
    print(text)
    few = [f"{result.column}={result.value}" for result in results[1:] if result.few]
    if few:
        _log.warning("too few rows for conclusions: %s", ", ".join(few))
    _log.info("wrote subgroups.md and subgroups.json to %s", args.out)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(prog="emotion-train subgroups", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="FILE", help="table of labelled faces, CSV or Parquet")
    add("--columns", nargs="+", required=True, metavar="NAME", help="columns by whose values to measure")
    add("--bundle", default="nano", metavar="NAME", help="name or folder of a bundle (default: nano)")
    add("--detector", default="face", metavar="NAME", help="detector, as of emotion-runtime (default: face)")
    add("--path-column", default="path", metavar="NAME", help="column of images and videos (default: path)")
    add("--label-column", default="label", metavar="NAME", help="column of emotions (default: label)")
    add("--time-column", default="time", metavar="NAME", help="column of times in videos (default: time)")
    add(
        "--group-column",
        default="group",
        metavar="NAME",
        help="column of what belongs together (default: group)",
    )
    add("--box-columns", nargs="*", default=[], metavar="NAME", help="columns of the box (default: guessed)")
    add(
        "--resamples",
        type=int,
        default=RESAMPLES,
        help=f"number of bootstrap resamples (default: {RESAMPLES})",
    )
    add("--seed", type=int, default=0, help="seed of the bootstrap (default: 0)")
    add("--out", type=Path, required=True, help="folder of the report")
    return parser
