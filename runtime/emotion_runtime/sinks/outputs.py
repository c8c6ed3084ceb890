"""Names of output files, and the check that a run does not overwrite what it reads or writes elsewhere."""

import re
from collections.abc import Sequence
from pathlib import Path

from emotion_runtime.errors import EmotionError

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")  # of recordings


def numbered(path: Path, number: int) -> Path:
    """Return the file for the n-th source, counted from 1: out.mp4, out-2.mp4, out-3.mp4."""
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")


def segment_name(path: Path, index: int) -> Path:
    """Return the file for a segment of a recording, counted from 1: out-0001.mp4, out-0002.mp4."""
    return path.with_stem(f"{path.stem}-{index:04d}")


def next_segment(path: Path) -> int:
    """Return the number of the segment after those that exist."""
    return max((index for index, _ in _segments(path)), default=1 if path.exists() else 0) + 1


def segments_from(path: Path, index: int) -> list[Path]:
    """Return the segments of a recording that exist from a number on, in order."""
    return [segment for number, segment in sorted(_segments(path)) if number >= index]


def _segments(path: Path) -> list[tuple[int, Path]]:
    """Return the existing segments of a recording, with their numbers."""
    pattern = re.compile(re.escape(path.stem) + r"-(\d{4,})" + re.escape(path.suffix))
    found = path.parent.iterdir() if path.parent.is_dir() else ()
    matches = ((pattern.fullmatch(each.name), each) for each in found)
    return [(int(match[1]), each) for match, each in matches if match]


def summary_path(csv: str) -> Path | None:
    """Return the file of the summary beside a table: people-summary.csv beside people.csv.

    Args:
        csv: The table. There is no summary beside standard output, a pipe or a device: None.
    """
    path = Path(csv)
    if csv == "-" or (path.exists() and not path.is_file()):
        return None
    return path.with_stem(f"{path.stem}-summary")


def is_folder(record: str) -> bool:
    """Return whether `--record` means a folder: an existing one, or a name without a suffix."""
    return Path(record).is_dir() or record.endswith("/") or not Path(record).suffix


def check_outputs(
    jsonl: str | None,
    record: str | None,
    sources: Sequence[str | int],
    embeddings: str | None = None,
    csv: str | None = None,
    report: str | None = None,
) -> None:
    """Reject a run that would overwrite one of its sources, or write two outputs into one file.

    Sinks truncate their files when they are opened, so a typo could destroy the only copy of a video.

    Args:
        jsonl: File of `--jsonl`, or "-" for standard output.
        record: File or folder of `--record`.
        sources: All sources of the run, and the files of folders and patterns one by one: each of them gets a
            recording of its own.
        embeddings: File of `--embeddings`.
        csv: File of `--csv`, or "-" for standard output.
        report: File of `--report`.

    Raises:
        EmotionError: An output is also a source or another output.
    """
    outputs = [("--jsonl", Path(jsonl))] if jsonl and jsonl != "-" else []
    if embeddings:
        outputs.append(("--embeddings", Path(embeddings)))
    if csv and csv != "-":
        beside = summary_path(csv)
        outputs += [("--csv", path) for path in (Path(csv), beside) if path is not None]
    if report:
        outputs.append(("--report", Path(report)))
    if record and Path(record).name and not is_folder(record):
        outputs += [("--record", path) for path in _recordings(Path(record), len(sources))]
    if record and is_folder(record):
        _check_folder(Path(record), sources)
    taken = {_identity(Path(str(source))): f"the source {source}" for source in sources}
    for flag, path in outputs:
        identity = _identity(path)
        if identity in taken:
            raise EmotionError(
                f"{flag} {path} would overwrite {taken[identity]}: give {flag} another file name"
            )
        taken[identity] = f"the output of {flag}"


def _recordings(path: Path, count: int) -> list[Path]:
    """Return the recordings of so many sources, and their segments that exist."""
    names = dict.fromkeys(numbered(path, n + 1).stem for n in range(count))
    pattern = re.compile(rf"(.+)-\d{{4,}}{re.escape(path.suffix)}")
    found = list(path.parent.iterdir()) if path.parent.is_dir() else []
    segments = [each for each in found if (match := pattern.fullmatch(each.name)) and match[1] in names]
    return [*(path.with_stem(name) for name in names), *segments]


def _check_folder(folder: Path, sources: Sequence[str | int]) -> None:
    """Reject a folder of copies that is the folder of a source: copies have the names of their sources."""
    folders = {
        source if source.is_dir() else source.parent: source
        for source in map(Path, map(str, sources))
        if source.exists()
    }
    for parent, source in folders.items():
        if _identity(parent) == _identity(folder):
            raise EmotionError(f"--record {folder} is the folder of the source {source}: give another folder")


def _identity(path: Path) -> tuple[int, int] | Path:
    """Return the same for all names of one file: links, other spellings, and files that do not exist yet."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # missing, or not a valid path, which is reported when it is opened
        return path.absolute()
    return status.st_dev, status.st_ino
