r"""Fit linear probes on the frozen features of a model and measure them on unseen data.

    emotion-train fit-probe --dataset scenes --data ../shared \
        --checkpoint runs/nano/checkpoint.pt --out runs/nano/probe
    emotion-train fit-probe --dataset meld --data MELD.Raw --checkpoint emotionclip.pt --out runs/meld
    emotion-train fit-probe --dataset table --data people.csv --bundle nano --out runs/mine

Data sets: bold, moviegraphs, meld, emotic, liris (layouts: docs/datasets.md), table (your own), scenes
(FER2013 faces in rendered scenes). Writes to --out: report.json, report.md with its plots, and the heads
(NAME.safetensors, NAME.json) for `emotion-export onnx --probe`: probe (emotions), affect (valence, arousal,
dominance), and for scenes zero_shot and the experimental categories. With --bundle the graphs of a bundle
compute the features, without torch, and the folder `bundle` in --out is a new bundle with these heads.
"""

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from emotion_runtime.bundle import Bundle, sha256_of
from emotion_runtime.console import OneLineParser
from emotion_runtime.errors import EmotionError
from emotion_train.commands.probe_options import add_options, read_options
from emotion_train.heads import LinearHead, read_probe_report, save_head
from emotion_train.probing.cards import as_linear_head, card_metrics, head_name
from emotion_train.probing.earlier_run import remove_earlier_run
from emotion_train.probing.measure import MeasureOptions
from emotion_train.probing.new_bundle import check_folder, write_bundle
from emotion_train.probing.options import (
    ProbeSetup,
    describe,
    describe_fit,
    open_setup,
)
from emotion_train.probing.protocol import C_GRID
from emotion_train.probing.report import ProbeReport, summary_lines, write_report
from emotion_train.probing.run import FitOptions, ProtocolResult, run_protocol

BUNDLE = "bundle"  # folder within --out

_log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    report = fit(args)
    print("\n".join(summary_lines(report)))
    _log.info("wrote the report and the heads to %s", args.out)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(prog="emotion-train fit-probe", description=__doc__.splitlines()[0])
    add_options(parser, bundle=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the report and the heads")
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="number of seeds to fit with: --seed and the next ones (default: 1)",
    )
    parser.add_argument(
        "--c",
        type=float,
        nargs="+",
        help="inverse regularisation strength; of several values, the one with the best metric on the tuning "
        "split is used (default: that of the protocol, or a choice among six values)",
    )
    return parser


def fit(args: argparse.Namespace) -> ProbeReport:
    """Fit and measure heads, write them and the report, and return the report."""
    if args.seeds < 1:
        raise EmotionError(f"--seeds {args.seeds}: expected 1 or more")
    if args.c and not all(0 < c < float("inf") for c in args.c):
        raise EmotionError(f"--c {' '.join(map(str, args.c))}: expected finite numbers above 0")
    _check_out(args.out, bundle=args.bundle is not None)
    shared = read_options(args)
    setup = open_setup(shared, fitting=True)
    grid = tuple(args.c or ([setup.protocol.c] if setup.protocol.c else C_GRID))
    seeds = tuple(range(args.seed, args.seed + args.seeds))
    fitting = FitOptions(seeds, grid, args.resamples)
    result = run_protocol(setup.tasks, setup.protocol, setup.load_set, fitting)
    table = sha256_of(args.data) if args.dataset == "table" else None
    heads = fitted_heads(result, setup, args.dataset, table)
    report = ProbeReport(
        args.dataset,
        describe(setup, shared) | describe_fit(setup, seeds, result),
        result.measured,
        result.skipped,
        {},
        result.spread,
    )
    if setup.plan is not None:
        from emotion_train.probing.scene_results import with_scenes  # noqa: PLC0415 - imports torch

        report, heads = with_scenes(report, heads, result, setup, MeasureOptions(args.seed, args.resamples))
    remove_earlier_run(args.out)
    for name, head in heads.items():
        save_head(args.out, name, head)
    if isinstance(setup.model, Bundle):
        _log.info(
            "wrote the bundle %s", write_bundle(setup.model, heads, args.out / BUNDLE, dataset=args.dataset)
        )
    report = replace(report, heads=tuple(heads))
    write_report(args.out, report)  # last: its JSON lists what belongs to this run
    return report


def _check_out(out: Path, *, bundle: bool) -> None:
    """Check the destination before the first image is encoded.

    Raises:
        EmotionError: `out` is a file, its report is not one of fit-probe, or its bundle would lose files.
    """
    if out.exists() and not out.is_dir():
        raise EmotionError(f"--out {out} is a file: expected a folder for the report and the heads")
    read_probe_report(out)
    if bundle:
        check_folder(out / BUNDLE)
    elif (out / BUNDLE).exists():
        _log.warning("%s is not of this run and is left as it is: its heads are the old ones", out / BUNDLE)


def fitted_heads(
    result: ProtocolResult, setup: ProbeSetup, dataset: str, table_sha256: str | None
) -> dict[str, LinearHead]:
    """Return the heads by the names of their files."""
    return {
        head_name(head.task): as_linear_head(
            head,
            card_metrics(result.measured, head.task),
            setup.sha256,
            setup.encoding.kind,
            dataset,
            table_sha256,
        )
        for head in result.heads
    }
