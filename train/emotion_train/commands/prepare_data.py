r"""Prepare videos and captions for pre-training: clips of one sentence each, in shards.

    emotion-train prepare-data --videos DIR --captions DIR --out SHARDS
    emotion-train prepare-data --from-authors DIR --out SHARDS

Writes to --out: shard-NNNNNN.tar, index.json, statistics.html and statistics.json; and work/ with the clips
of each video, from which the same command continues if it was stopped. Guide: docs/data.md.
"""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from emotion_runtime.console import OneLineParser
from emotion_runtime.errors import EmotionError
from emotion_train.language.sentiment import PAPER_MODEL
from emotion_train.prepare.excluded import BOLD_VIDEOS
from emotion_train.prepare.page import warnings
from emotion_train.prepare.punctuation import PAPER_MODEL as PUNCTUATION_MODEL
from emotion_train.prepare.run import ShardOutput, WorkerPool, prepare_authors, prepare_raw
from emotion_train.prepare.settings import Filters, ModelNames, PrepareSettings, check_models, identity
from emotion_train.prepare.statistics import Statistics

AUTHORS = "of the authors"  # stored in the settings in place of a model's name

_log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    report(args.out, prepare(args))
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(prog="emotion-train prepare-data", description=__doc__.splitlines()[0])
    _add_inputs(parser)
    _add_models_and_frames(parser)
    _add_filters(parser)
    work = parser.add_argument_group("processing").add_argument
    work("--workers", type=int, default=os.cpu_count() or 1, help="number of processes (default: all cores)")
    work(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="process videos on this machine or with Ray (default: %(default)s)",
    )
    work("--address", help="address of a Ray cluster (default: start Ray on this machine)")
    work(
        "--seed", type=int, default=0, help="seed of the order of clips in the shards (default: %(default)s)"
    )
    work(
        "--clips-per-shard",
        type=int,
        default=1000,
        help="maximum number of clips in a shard (default: %(default)s)",
    )
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("input and output").add_argument
    add("--videos", type=Path, help="folder of videos")
    add("--captions", type=Path, help="folder of captions: NAME.srt, .vtt, .json, .json3 or NAME.en.vtt ...")
    add("--from-authors", type=Path, help="folder of data that the scripts of the paper's authors prepared")
    add(
        "--exclude",
        type=Path,
        metavar="bold|FILE",
        help="videos to leave out: 'bold' for the YouTube videos of BoLD, by their ids, or a text file with "
        "one name on each line",
    )
    add(
        "--language",
        default=PrepareSettings().language,
        help="language tag of the captions, as in NAME.en.vtt (default: %(default)s)",
    )
    add("--out", type=Path, required=True, help="folder to write the shards to")


def _add_models_and_frames(parser: argparse.ArgumentParser) -> None:
    standard = PrepareSettings()
    models = parser.add_argument_group("models").add_argument
    models(
        "--detector",
        default=standard.detector,
        help="`face`, or an ONNX file of a person detector (default: %(default)s)",
    )
    models("--detector-score", type=float, help="minimum score of a box (default: that of the detector)")
    models(
        "--sentiment", default=PAPER_MODEL, help="a transformers model, or `linear` (default: %(default)s)"
    )
    models(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="where the detector and a transformers model run (default: %(default)s)",
    )
    models(
        "--punctuation",
        metavar="MODEL",
        help="transformers model that restores punctuation in captions without any, such as the paper's, "
        f"{PUNCTUATION_MODEL} (default: none)",
    )
    models("--sentences", type=Path, help="folder of train.tsv and labels.txt that `linear` is fitted on")
    frames = parser.add_argument_group("frames and sentences").add_argument
    frames("--fps", type=float, default=standard.fps, help="frames stored per second (default: %(default)s)")
    frames(
        "--short-side",
        type=int,
        default=standard.short_side,
        help="short side of a stored frame in pixels (default: %(default)s)",
    )
    frames(
        "--jpeg-quality",
        type=int,
        default=standard.jpeg_quality,
        help="JPEG quality of stored frames, 1 to 95 (default: %(default)s)",
    )
    frames(
        "--pause",
        type=float,
        default=standard.pause,
        help="seconds of silence that end a sentence (default: %(default)s)",
    )


def _add_filters(parser: argparse.ArgumentParser) -> None:
    standard = Filters()
    add = parser.add_argument_group("filters (defaults: those of the paper)").add_argument
    for name, kind, text in (
        ("min_seconds", float, "leave out sentences of this duration or shorter"),
        ("max_seconds", float, "leave out sentences of this duration or longer"),
        ("min_characters", int, "leave out sentences with fewer characters"),
        ("max_neutral", float, "leave out sentences with a higher probability of neutral"),
        ("min_frames", int, "leave out clips with fewer frames"),
    ):
        option = f"--{name.replace('_', '-')}"
        add(option, type=kind, default=getattr(standard, name), help=f"{text} (default: %(default)s)")
    add("--need-person", action="store_true", help="leave out clips in which no person is detected")


def prepare(args: argparse.Namespace) -> Statistics:
    """Check the options, prepare the data, and return the statistics."""
    for name in ("workers", "clips_per_shard"):
        if getattr(args, name) < 1:
            raise EmotionError(f"--{name.replace('_', '-')} {getattr(args, name)}: expected 1 or more")
    if args.address and args.engine != "ray":
        raise EmotionError(f"--address {args.address}: expected only with Ray; add --engine ray")
    pool = WorkerPool(args.engine, args.workers, args.address)
    output = ShardOutput(args.out.resolve(), args.seed, args.clips_per_shard)
    exclude = read_names(args.exclude)
    if args.from_authors is not None:
        if args.videos or args.captions:
            raise EmotionError("--from-authors excludes --videos and --captions: give one or the other")
        refuse_without_effect(args)
        return prepare_authors(args.from_authors.resolve(), output, settings_of(args), pool, exclude)
    if args.videos is None or args.captions is None:
        raise EmotionError("no data: give --videos DIR and --captions DIR, or --from-authors DIR")
    names = ModelNames(
        _resolved(args.detector),
        args.detector_score,
        _resolved(args.sentiment),
        args.sentences,
        args.device,
        args.punctuation and _resolved(args.punctuation),
    )
    check_models(names)
    folders = (args.videos.resolve(), args.captions.resolve())
    return prepare_raw(folders, output, settings_of(args), names, pool, exclude)


def refuse_without_effect(args: argparse.Namespace) -> None:
    """Refuse options that have no effect on data that the authors prepared."""
    standard = parser().parse_args(["--out", ""])
    for name in (
        "fps",
        "pause",
        "language",
        "detector",
        "detector_score",
        "sentiment",
        "punctuation",
        "sentences",
        "device",
    ):
        if getattr(args, name) != getattr(standard, name):
            option = name.replace("_", "-")
            raise EmotionError(f"--{option} has no effect on data that the authors prepared: leave it out")


def _resolved(name: str) -> str:
    """Return the absolute path of a file or folder, which workers need; other names are unchanged."""
    return str(Path(name).resolve()) if Path(name).exists() else name


def settings_of(args: argparse.Namespace) -> PrepareSettings:
    """Return everything that the clips depend on."""
    authors = args.from_authors is not None
    fitted_on = args.sentences if args.sentiment == "linear" else None
    filters = Filters(
        args.min_seconds,
        args.max_seconds,
        args.min_characters,
        args.max_neutral,
        args.min_frames,
        args.need_person,
    )
    return PrepareSettings(
        fps=args.fps,
        short_side=args.short_side,
        jpeg_quality=args.jpeg_quality,
        pause=args.pause,
        language=args.language,
        detector=AUTHORS if authors else identity(args.detector),
        detector_score=args.detector_score,
        sentiment=AUTHORS if authors else identity(args.sentiment, fitted_on),
        punctuation=identity(args.punctuation) if args.punctuation else None,
        filters=filters,
    )


def read_names(path: Path | None) -> frozenset[str]:
    """Return the names in a file, one per line, or those of the list called "bold"; none without a file."""
    if path is None:
        return frozenset()
    if path == Path("bold"):
        return BOLD_VIDEOS
    try:
        return frozenset(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()) - {""}
    except (OSError, UnicodeDecodeError) as error:
        raise EmotionError(f"--exclude {path}: {error}; expected the name of a video on each line") from error


def report(out: Path, statistics: Statistics) -> None:
    """Log what was written, and what the user should look into."""
    left_out = {name: count for name, count in statistics.sentences.items() if count and name != "kept"}
    _log.info(
        "wrote %d clips of %d videos in %d shards to %s; left out: %s",
        statistics.clips,
        statistics.videos - len(statistics.broken),
        statistics.shards,
        out,
        ", ".join(f"{count} {name}" for name, count in left_out.items()) or "nothing",
    )
    for what, names in (
        ("could not be used", [f"{name}: {reason}" for name, reason in statistics.broken.items()]),
        ("videos without captions", statistics.videos_without_captions),
        ("captions without a video", statistics.captions_without_video),
    ):
        if names:
            _log.info("%d %s: %s%s", len(names), what, names[0], " ..." if len(names) > 1 else "")
    for line in warnings(statistics):
        _log.warning("%s", line)
    _log.info("open %s to see what was found and left out", out / "statistics.html")
