"""Open the sources of one run of the command `emotion-runtime`."""

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emotion_runtime.config import RunConfig
from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.options import PROGRAM
from emotion_runtime.rounds import Rounds
from emotion_runtime.sinks.jsonl_folder import is_jsonl_folder, unfinished
from emotion_runtime.sources import Address, LiveLimits, Source, expand, open_source
from emotion_runtime.sources.in_turn import in_turn
from emotion_runtime.sources.length import estimate_frames
from emotion_runtime.stop_signals import StopRequest

if TYPE_CHECKING:
    from emotion_runtime.types import RunLine


def add_sources(rounds: Rounds, addresses: Sequence[Address], config: RunConfig) -> None:
    """Open the sources of a run, and add them to its rounds.

    Beside a camera or stream, a source with a mistake is logged and counts as failed: the others go on.

    Raises:
        EmotionError: A source cannot be opened.
    """
    limits = LiveLimits(silence=config.lost_after, frozen=config.frozen_after)
    for address in addresses:
        try:
            rounds.add(open_source(address, realtime=config.realtime, follow=config.follow, limits=limits))
        except EmotionError as error:  # noqa: PERF203 - there are few
            if not any(other.live for other in addresses if other is not address):
                raise
            logging.getLogger(__name__).error("%s", error)  # noqa: TRY400 - a user's mistake has no traceback
            rounds.errors.append(SourceBroken(str(error)))


def add_files_in_turn(
    rounds: Rounds,
    paths: Sequence[Path],
    config: RunConfig,
    stop: StopRequest,
    finished: Callable[[str], None],
) -> None:
    """Add files that are read one after the other.

    Args:
        rounds: Gets them as one source.
        paths: The files.
        config: The options of the run.
        stop: Ends what a file waits for.
        finished: Is called with the path of each file that was read to its end.
    """
    current: list[Source] = []

    def end_waiting() -> None:
        for source in current:
            source.stop()

    def opened(path: str) -> Source:
        current[:] = [open_source(path, realtime=config.realtime, follow=config.follow)]
        return current[0]

    def completed(path: str) -> None:
        if not stop.stopped.is_set():  # otherwise the file ended early
            finished(path)

    stop.then(end_waiting)
    rounds.add(in_turn(paths, opened, completed, seconds=config.duration))


def files_to_do(addresses: Sequence[Address], config: RunConfig, run_line: "RunLine") -> list[Path] | None:
    """Return the files of all sources that have no complete results yet; None without `--jsonl FOLDER/`.

    Raises:
        EmotionError: A source is not a file, a folder or a pattern.
    """
    if not is_jsonl_folder(config.jsonl):
        return None
    places = [address.uri if address.kind == "file" else address.name for address in addresses]
    paths = [path for place in places for path in expand(place)]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise EmotionError(f"--jsonl {config.jsonl} is a folder, for results of files: {missing[0]} is none")
    left = unfinished(paths, Path(str(config.jsonl)), None if config.overwrite else run_line)
    if len(left) < len(paths):
        sys.stderr.write(
            f"{PROGRAM}: {len(paths) - len(left)} of {len(paths)} files were finished by an earlier run; "
            "--overwrite processes them again\n"
        )
    return left


def expected_frames(addresses: Sequence[Address], config: RunConfig) -> int | None:
    """Return the number of frames to come, as far as it is known, so that the time left can be shown."""
    counts = [
        None if address.live else estimate_frames(address.uri, config.duration) for address in addresses
    ]
    known = [count for count in counts if count is not None]
    total = sum(known) if len(known) == len(counts) else None
    limits = [limit for limit in (total, config.max_frames) if limit is not None]
    return min(limits, default=None)
