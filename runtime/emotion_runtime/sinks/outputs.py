"""Check that a run does not overwrite a file that it reads or writes elsewhere."""

from collections.abc import Sequence
from pathlib import Path

from emotion_runtime.errors import EmotionError


def numbered(path: Path, number: int) -> Path:
    """Return the file for the n-th source, counted from 1: out.mp4, out-2.mp4, out-3.mp4."""
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")


def check_outputs(jsonl: str | None, record: str | None, sources: Sequence[str | int]) -> None:
    """Reject a run that would overwrite one of its sources, or write two outputs into one file.

    Sinks truncate their files when they are opened, so a typo could destroy the only copy of a video.

    Args:
        jsonl: File of `--jsonl`, or "-" for standard output.
        record: File of `--record`.
        sources: All sources of the run.

    Raises:
        EmotionError: An output is also a source or another output.
    """
    outputs = [("--jsonl", Path(jsonl))] if jsonl and jsonl != "-" else []
    if record and Path(record).name:
        outputs += [("--record", numbered(Path(record), n + 1)) for n in range(len(sources))]
    taken = {_identity(Path(str(source))): f"the source {source}" for source in sources}
    for flag, path in outputs:
        identity = _identity(path)
        if identity in taken:
            raise EmotionError(
                f"{flag} {path} would overwrite {taken[identity]}: give {flag} another file name"
            )
        taken[identity] = f"the output of {flag}"


def _identity(path: Path) -> tuple[int, int] | Path:
    """Return the same for all names of one file: links, other spellings, and files that do not exist yet."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # missing, or not a valid path, which is reported when it is opened
        return path.absolute()
    return status.st_dev, status.st_ino
