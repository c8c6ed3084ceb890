r"""Prepare videos and captions for pre-training: clips of a sentence each, in shards.

    emotion-train prepare-data --videos DIR --captions DIR --out SHARDS
    emotion-train prepare-data --from-authors DIR --out SHARDS

Writes into --out: shard-NNNNNN.tar, index.json, statistics.html, statistics.json; and work/, the clips of
each video, by which the same command goes on where it was stopped. The guide is docs/data.md.
"""

import argparse
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from emotion_runtime.console import OneLineParser
from emotion_runtime.errors import EmotionError
from emotion_train.language.sentiment import PAPER_MODEL
from emotion_train.prepare.page import warnings
from emotion_train.prepare.run import ShardOutput, WorkerPool, prepare_authors, prepare_raw
from emotion_train.prepare.settings import Filters, ModelNames, PrepareSettings, check_models, identity
from emotion_train.prepare.statistics import Statistics

AUTHORS = "of the authors"  # instead of the name of a model

_log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    args = parser().parse_args(argv)
    report(args.out, prepare(args))
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OneLineParser(prog="emotion-train prepare-data", description=__doc__.splitlines()[0])
    standard = PrepareSettings()
    source = parser.add_argument_group("what is prepared")
    source.add_argument("--videos", type=Path, help="folder of videos")
    source.add_argument(
        "--captions", type=Path, help="folder of NAME.srt, .vtt, .json, .json3 or NAME.en.vtt ..."
    )
    source.add_argument("--from-authors", type=Path, help="folder of data that the authors' scripts prepared")
    source.add_argument("--exclude", type=Path, help="file with a name of a video to leave out on each line")
    source.add_argument("--language", default=standard.language, help="of the captions, as in NAME.en.vtt")
    source.add_argument("--out", type=Path, required=True, help="folder of the shards")
    models = parser.add_argument_group("models")
    models.add_argument(
        "--detector", default=standard.detector, help="`face` or an ONNX file of a person detector"
    )
    models.add_argument("--detector-score", type=float, help="least score of a box (default: the detector's)")
    models.add_argument("--sentiment", default=PAPER_MODEL, help="a transformers model, or `linear`")
    models.add_argument("--sentences", type=Path, help="folder of train.tsv and labels.txt, for `linear`")
    frames = parser.add_argument_group("frames and sentences")
    frames.add_argument("--fps", type=float, default=standard.fps, help="stored frames a second")
    frames.add_argument(
        "--short-side", type=int, default=standard.short_side, help="of a stored frame, pixels"
    )
    frames.add_argument("--jpeg-quality", type=int, default=standard.jpeg_quality)
    frames.add_argument("--pause", type=float, default=standard.pause, help="seconds that end a sentence")
    filters = parser.add_argument_group("filters (defaults: the paper's)")
    filters.add_argument(
        "--min-seconds", type=float, default=standard.filters.min_seconds, help="clips are longer"
    )
    filters.add_argument(
        "--max-seconds", type=float, default=standard.filters.max_seconds, help="clips are shorter"
    )
    filters.add_argument("--min-characters", type=int, default=standard.filters.min_characters)
    filters.add_argument(
        "--max-neutral", type=float, default=standard.filters.max_neutral, help="probability"
    )
    filters.add_argument("--min-frames", type=int, default=standard.filters.min_frames)
    filters.add_argument(
        "--need-person", action="store_true", help="leave out clips in which nobody is found"
    )
    work = parser.add_argument_group("how the work is done")
    work.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    work.add_argument("--engine", choices=["local", "ray"], default="local")
    work.add_argument("--address", help="of a Ray cluster; without it, Ray starts here")
    work.add_argument("--seed", type=int, default=0, help="of the order of clips in the shards")
    work.add_argument("--clips-per-shard", type=int, default=1000)
    return parser


def prepare(args: argparse.Namespace) -> Statistics:
    """Check the options and run."""
    for name in ("workers", "clips_per_shard"):
        if getattr(args, name) < 1:
            raise EmotionError(f"--{name.replace('_', '-')} {getattr(args, name)}: expected 1 or more")
    if args.address and args.engine != "ray":
        raise EmotionError(f"--address {args.address}: only Ray has one; add --engine ray")
    pool = WorkerPool(args.engine, args.workers, args.address)
    output = ShardOutput(args.out.resolve(), args.seed, args.clips_per_shard)
    exclude = read_names(args.exclude)
    if args.from_authors is not None:
        if args.videos or args.captions:
            raise EmotionError("--from-authors comes without --videos and --captions: give one or the other")
        refuse_settled(args)
        return prepare_authors(args.from_authors.resolve(), output, settings_of(args), pool, exclude)
    if args.videos is None or args.captions is None:
        raise EmotionError("no data: give --videos DIR and --captions DIR, or --from-authors DIR")
    names = ModelNames(_found(args.detector), args.detector_score, _found(args.sentiment), args.sentences)
    check_models(names)
    folders = (args.videos.resolve(), args.captions.resolve())
    return prepare_raw(folders, output, settings_of(args), names, pool, exclude)


def refuse_settled(args: argparse.Namespace) -> None:
    """Options that would change nothing."""
    standard = parser().parse_args(["--out", ""])
    for name in ("fps", "pause", "language", "detector", "detector_score", "sentiment", "sentences"):
        if getattr(args, name) != getattr(standard, name):
            option = name.replace("_", "-")
            raise EmotionError(f"--{option} means nothing to data that the authors prepared: leave it out")


def _found(name: str) -> str:
    """A file or folder by its whole path, which workers need; other names as they are."""
    return str(Path(name).resolve()) if Path(name).exists() else name


def settings_of(args: argparse.Namespace) -> PrepareSettings:
    """All that the clips depend on."""
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
        filters=filters,
    )


def read_names(path: Path | None) -> frozenset[str]:
    """Names of a file, a line each; none without a file."""
    if path is None:
        return frozenset()
    try:
        return frozenset(line.strip() for line in path.read_text(encoding="utf-8").splitlines()) - {""}
    except (OSError, UnicodeDecodeError) as error:
        raise EmotionError(f"--exclude {path}: {error}; expected a name of a video on each line") from error


def report(out: Path, statistics: Statistics) -> None:
    """What was made, and what should make somebody look again."""
    left_out = {fate: count for fate, count in statistics.sentences.items() if count and fate != "kept"}
    _log.info(
        "%d clips of %d videos in %d shards at %s; left out: %s",
        statistics.clips,
        statistics.videos - len(statistics.broken),
        statistics.shards,
        out,
        ", ".join(f"{count} {fate}" for fate, count in left_out.items()) or "nothing",
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
    _log.info("%s shows what was found and left out", out / "statistics.html")
