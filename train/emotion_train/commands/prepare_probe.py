"""Prepare a labelled data set for fit-probe: frames, boxes and tables, from what its authors publish.

    emotion-train prepare-probe --dataset meld --data MELD.Raw --detector yolox_nano.onnx --out DATA
    emotion-train prepare-probe --dataset emotic --data EMOTIC --out DATA

bold, emotic: their authors publish where people are. meld, liris, moviegraphs: --detector finds them.
docs/datasets.md says what belongs in --data.
"""

import argparse
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from emotion_runtime.bundle import sha256_of
from emotion_runtime.console import OneLineParser
from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import make_folder, write_atomically

SETTINGS_FILE = "prepared.json"
_DETECTED = ("liris", "meld", "moviegraphs")  # people are found by a detector
_ANNOTATED = ("bold", "emotic")

_log = logging.getLogger(__name__)


class _Settings(msgspec.Struct, frozen=True, omit_defaults=False):
    """What must not change when a preparation is continued."""

    dataset: str
    detector_sha256: str | None
    detector_score: float | None


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    if (args.dataset in _DETECTED) != bool(args.detector):
        raise EmotionError(
            f"{args.dataset} needs --detector: a YOLOX or ultralytics ONNX file, which finds whole persons"
            if args.dataset in _DETECTED
            else f"--detector does not apply to {args.dataset}, whose authors publish where people are"
        )
    if args.detector == "face":
        raise EmotionError("--detector face finds faces: expected an ONNX file that finds whole persons")
    if not args.data.is_dir():
        raise EmotionError(f"--data {args.data} is not a folder: expected what the authors publish, unpacked")
    make_folder(args.out)
    outcomes = _prepare(args)
    numbers = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    _log.info("wrote %s: %s", args.out, numbers)
    probe = f"fit-probe --dataset {args.dataset} --data {args.out}"
    print(f"next: emotion-train {probe} --checkpoint FILE --out DIR")
    return 0


def _prepare(args: argparse.Namespace) -> Counter[str]:
    """Prepare the data set, and return the number of its parts by outcome."""
    from emotion_train.probe_data import bold, emotic, liris, meld, moviegraphs  # noqa: PLC0415 - slow: SciPy

    if args.dataset in _DETECTED:
        with_detector = {"liris": liris.prepare, "meld": meld.prepare, "moviegraphs": moviegraphs.prepare}
        detector = load_detector(args.detector, score=args.detector_score)
        _same_settings(args)
        return with_detector[args.dataset](args.data, args.out, detector)
    _same_settings(args)
    return {"bold": bold.prepare, "emotic": emotic.prepare}[args.dataset](args.data, args.out)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(prog="emotion-train prepare-probe", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--dataset", required=True, choices=(*_DETECTED, *_ANNOTATED), help="data set to prepare")
    add("--data", required=True, type=Path, help="folder with what its authors publish, unpacked")
    add("--out", required=True, type=Path, help="folder to write; a run that was stopped goes on there")
    add("--detector", metavar="FILE", help="YOLOX or ultralytics ONNX file that finds whole persons")
    add(
        "--detector-score",
        type=float,
        metavar="P",
        help="minimum score of a person (default: the detector's)",
    )
    return parser


def _same_settings(args: argparse.Namespace) -> None:
    """Write the settings; refuse a folder that was begun with others.

    Raises:
        EmotionError: The folder was begun with other settings.
    """
    digest = sha256_of(Path(args.detector)) if args.detector else None
    settings, path = _Settings(args.dataset, digest, args.detector_score), args.out / SETTINGS_FILE
    if path.is_file() and msgspec.json.decode(path.read_bytes()) != msgspec.to_builtins(settings):
        raise EmotionError(
            f"--out {args.out} was begun with another data set, detector or score ({path}): choose another "
            "folder"
        )
    write_atomically(path, msgspec.json.encode(settings))
