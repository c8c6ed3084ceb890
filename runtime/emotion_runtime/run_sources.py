"""Open the sources of one run of the command `emotion-runtime`."""

import logging
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from emotion_runtime.config import RunConfig
from emotion_runtime.errors import EmotionError, SourceBroken, about
from emotion_runtime.metrics import StageTimer
from emotion_runtime.options import PROGRAM
from emotion_runtime.privacy.zones import check_zones, parse_zone
from emotion_runtime.rounds import Rounds
from emotion_runtime.sinks.jsonl_folder import is_jsonl_folder, unfinished
from emotion_runtime.sinks.outputs import check_outputs
from emotion_runtime.sources import (
    Address,
    LiveLimits,
    Source,
    expand,
    open_source,
    parse_source,
    parse_sources,
    same_target,
)
from emotion_runtime.sources.in_turn import in_turn
from emotion_runtime.sources.uris import NAME, name_of_file
from emotion_runtime.stop_signals import StopRequest
from emotion_runtime.types import RunLine


def checked_addresses(config: RunConfig) -> tuple[list[Address], list[str]]:
    """Return the addresses of the sources of a run, see `addresses_of`.

    Raises:
        EmotionError: See `addresses_of`; or an output would overwrite a source or another output, or a zone
            is that of no source.
    """
    with about("source"):
        addresses, mistakes = addresses_of(config.sources)
    places = [place for address in addresses for place in _places(address)]
    check_outputs(config.jsonl, config.record, places, config.embeddings, config.csv, config.report)
    check_zone_names(config, addresses)
    return addresses, mistakes


def addresses_of(sources: Sequence[str | int]) -> tuple[list[Address], list[str]]:
    """Return the addresses of sources, and what is wrong with those that have a mistake.

    Raises:
        EmotionError: A source has a mistake, and none of the others is a camera or stream: those go on; or
            the same source is given twice.
    """
    good: list[str | int] = []
    addresses: list[Address] = []
    mistakes: list[EmotionError] = []
    for source in sources:
        try:
            address = parse_source(source)
            twice = any(same_target(address, other) for other in addresses)
            if not twice:
                addresses = parse_sources([*good, source])
                good.append(source)
        except EmotionError as error:
            mistakes.append(error)
            continue
        if twice:
            parse_sources([*good, source])  # raises: a slip of this kind leaves out no source
    _check_files(addresses)
    if mistakes and not any(address.live for address in addresses):
        raise mistakes[0]
    return addresses, [str(error) for error in mistakes]


def _check_files(addresses: Sequence[Address]) -> None:
    """Reject a file that two sources hold, such as a folder and a file in it.

    Raises:
        EmotionError: There is such a file.
    """
    holders: dict[str, Address] = {}
    for address in addresses:
        for path in _files_of(address):
            holder = holders.setdefault(os.path.realpath(path), address)
            if holder is not address:
                raise EmotionError(
                    f"the file {path} is given twice, by {holder.name} and {address.name}: give it once"
                )


def _files_of(address: Address) -> list[Path]:
    try:
        return expand(address.uri) if address.kind == "file" else []
    except EmotionError:  # there is none: opening the source says so
        return []


def _places(address: Address) -> list[str]:
    """Return what no output may overwrite: the files of a folder or a pattern, too."""
    if address.live:
        return [address.name]  # the address may hold a password
    return [str(path) for path in _files_of(address)] or [address.uri]


def names_of_frames(address: Address) -> dict[str, Path | None]:
    """Return the names that frames of an address have, in order, with the files that these are of.

    Each file of a folder is one; None stands for what is not a file.
    """
    files: dict[str, Path | None] = {name_of_file(address, path): path for path in _files_of(address)}
    return files or {address.name: None}


def check_zone_names(config: RunConfig, addresses: Sequence[Address]) -> None:
    """Reject a privacy zone of a source that does not exist.

    Args:
        config: The options of the run.
        addresses: The sources without mistakes; those with one count as well.

    Raises:
        EmotionError: There is no source of its name.
    """
    named = [found[1] for text in config.source if (found := re.match(rf"({NAME})=", text))]
    names = {name: [name] for name in named} | {each.name: list(names_of_frames(each)) for each in addresses}
    check_zones([parse_zone(text) for text in config.zone], names)


def fail(rounds: Rounds, mistake: str) -> None:
    """Log that a source cannot be used, and count it as failed."""
    logging.getLogger(__name__).error("%s", mistake)
    rounds.errors.append(SourceBroken(mistake))


def open_rounds(
    addresses: Sequence[Address],
    config: RunConfig,
    run_line: RunLine,
    timer: StageTimer,
    stop: StopRequest,
    finished: list[str],
) -> Rounds:
    """Open the sources of a run.

    Args:
        addresses: The sources.
        config: The options of the run.
        run_line: The first line that the results will have.
        timer: Gets the time spent on reading.
        stop: Ends the rounds, and what a source waits for.
        finished: Gets the name of each file that was read to its end, if files are read one after the other.

    Raises:
        EmotionError: A source cannot be opened.
    """
    files = _files_to_do(addresses, config, run_line)
    seconds = config.duration if files is None else None
    rounds = Rounds([], timer, seconds=seconds, stop=stop.stopped)
    stop.then(rounds.stop)
    try:
        if files is None:
            _add_sources(rounds, addresses, config)
        else:
            _add_files_in_turn(rounds, files, config, stop, finished)
    except BaseException:
        rounds.close()
        raise
    return rounds


def _add_sources(rounds: Rounds, addresses: Sequence[Address], config: RunConfig) -> None:
    """Open all sources. Beside a camera or stream, one with a mistake counts as failed: the others go on."""
    limits = LiveLimits(silence=config.lost_after, frozen=config.frozen_after)
    for address in addresses:
        try:
            with about("source"):
                rounds.add(
                    open_source(address, realtime=config.realtime, follow=config.follow, limits=limits)
                )
        except EmotionError as error:  # noqa: PERF203 - there are few
            if not any(other.live for other in addresses if other is not address):
                raise
            fail(rounds, str(error))


def _add_files_in_turn(
    rounds: Rounds, files: Sequence[Address], config: RunConfig, stop: StopRequest, finished: list[str]
) -> None:
    """Add files that are read one after the other."""
    current: list[Source] = []

    def end_waiting() -> None:
        for source in current:
            source.stop()

    def opened(file: Address) -> Source:
        with about("source"):
            current[:] = [open_source(file, realtime=config.realtime, follow=config.follow)]
        return current[0]

    def completed(name: str) -> None:
        if not stop.stopped.is_set():  # otherwise the file ended early
            finished.append(name)

    stop.then(end_waiting)
    rounds.add(in_turn(files, opened, completed, seconds=config.duration))


def _files_to_do(addresses: Sequence[Address], config: RunConfig, run_line: RunLine) -> list[Address] | None:
    """Return the files of all sources that have no complete results yet; None without `--jsonl FOLDER/`.

    Each is a source of its own, with the name that it has without such a folder.

    Raises:
        EmotionError: A source is not a file, a folder or a pattern.
    """
    if not is_jsonl_folder(config.jsonl):
        return None
    files: list[tuple[str, Path]] = []  # with their names
    for address in addresses:
        found = expand(address.uri) if address.kind == "file" else []
        if not all(path.is_file() for path in found or [Path()]):
            raise EmotionError(
                f"--jsonl {config.jsonl} is a folder, for results of files: {address.name} is none"
            )
        files += [(name_of_file(address, path), path) for path in found]
    to_do = unfinished(dict(files), Path(str(config.jsonl)), None if config.overwrite else run_line)
    left = [Address(name, "file", str(path), named=True) for name, path in files if name in to_do]
    if len(left) < len(files):
        sys.stderr.write(
            f"{PROGRAM}: {len(files) - len(left)} of {len(files)} files were finished by an earlier run; "
            "--overwrite processes them again\n"
        )
    return left


def expected_frames(addresses: Sequence[Address], config: RunConfig) -> int | None:
    """Return the number of frames to come, as far as it is known, so that the time left can be shown."""
    from emotion_runtime.sources.length import estimate_frames  # noqa: PLC0415 - loads PyAV

    counts = [
        None if address.live else estimate_frames(address.uri, config.duration) for address in addresses
    ]
    known = [count for count in counts if count is not None]
    total = sum(known) if len(known) == len(counts) else None
    limits = [limit for limit in (total, config.max_frames) if limit is not None]
    return min(limits, default=None)
