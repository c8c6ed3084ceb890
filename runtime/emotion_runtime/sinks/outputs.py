"""Which files a run writes, and that none of them is a file it reads."""

from collections.abc import Sequence
from pathlib import Path

from emotion_runtime.errors import EmotionError


def numbered(path: Path, number: int) -> Path:
    """The file for the n-th source, from 1: out.mp4, out-2.mp4, out-3.mp4."""
    return path if number == 1 else path.with_stem(f"{path.stem}-{number}")


def check_outputs(jsonl: str | None, record: str | None, sources: Sequence[str | int]) -> None:
    """Refuse a run that would write over what it reads, or two outputs into one file.

    Sinks empty their files when they are opened: a slip of the pen would cost the only copy of a video.

    Raises:
        EmotionError: which flag and which file.

    """
    outputs = [("--jsonl", Path(jsonl))] if jsonl and jsonl != "-" else []
    if record and Path(record).name:
        outputs += [("--record", numbered(Path(record), n + 1)) for n in range(len(sources))]
    taken = {_place(Path(str(source))): f"the source {source}" for source in sources}
    for flag, path in outputs:
        place = _place(path)
        if place in taken:
            raise EmotionError(
                f"{flag} {path} would write over {taken[place]}: give {flag} another file name"
            )
        taken[place] = f"what {flag} writes"


def _place(path: Path) -> tuple[int, int] | Path:
    """Equal for two names of one file: links, other spellings, and files that do not exist yet."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # not there, or no path at all, which whoever opens it says
        return path.absolute()
    return found.st_dev, found.st_ino
