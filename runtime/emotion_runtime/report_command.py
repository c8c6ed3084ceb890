"""The command `emotion-report`: make the page of `--report` from JSON lines.

Exit status: 0 done; 2 an error that the user can fix, in one line; 1 a bug, with its traceback.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from emotion_runtime import __version__
from emotion_runtime.config_checks import PAGES
from emotion_runtime.console import OneLineParser, run
from emotion_runtime.errors import EmotionError

PROGRAM = "emotion-report"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = OneLineParser(
        prog=PROGRAM,
        description="Make one page about a session from the JSON lines that emotion-runtime wrote.",
        epilog="Example: emotion-report events.jsonl report.html",
        allow_abbrev=False,
    )
    add = options.add_argument
    add(
        "events",
        nargs="+",
        metavar="EVENTS.jsonl",
        help="file of --jsonl, of schema 1 or 2; parts of a rotated file in their order",
    )
    add("out", metavar="OUT.html", help="the page, which is replaced if it exists")
    add(
        "--session",
        type=int,
        metavar="N",
        help="the page is about this session of the file, from 1: each run that continued the file is one "
        "(default: the last)",
    )
    add("--version", action="version", version=f"%(prog)s {__version__}", help="print the version and exit")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: The arguments without the program's name. None: those of the process.
    """
    return run(PROGRAM, lambda: _command(parser().parse_args(argv)))


def _command(options: argparse.Namespace) -> None:
    from emotion_runtime.files import write_atomically  # noqa: PLC0415 - keeps `--help` fast
    from emotion_runtime.sinks.report.from_lines import read_sessions  # noqa: PLC0415
    from emotion_runtime.sinks.report.page import page  # noqa: PLC0415

    out = Path(options.out)
    if any(out.resolve() == Path(path).resolve() for path in options.events):
        raise EmotionError(f"{out} would replace the events that it is made from: give another file name")
    if out.suffix.lower() not in PAGES:
        raise EmotionError(f"{out}: expected a page that ends with .html, after the files of --jsonl")
    if options.session is not None and options.session < 1:
        raise EmotionError(f"--session {options.session}: expected 1 or more; omit it for the last session")
    chosen, number, count = None, 0, 0
    for session in read_sessions(options.events):
        count += 1
        if options.session in (None, count):
            chosen, number = session, count
    if not count or (chosen is not None and chosen.run is not None and "aggregate" in chosen.run.options):
        raise EmotionError(
            f"{options.events[0]} has no lines of frames, from which a report is made; give a file of "
            "--jsonl that was written without --aggregate, with which there are only counts"
        )
    if chosen is None:
        raise EmotionError(
            f"--session {options.session}: there is no such session; expected one of 1 to {count}; "
            "omit it for the last one"
        )
    notes = [f"Session {number} of {count} in the file."] if count > 1 else []
    write_atomically(out, page(chosen, notes).encode("utf-8", "replace"))
    sys.stderr.write(f"wrote {out}\n")
