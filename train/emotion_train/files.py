"""Files that are there whole or not at all."""

import os
from pathlib import Path

from emotion_runtime.errors import EmotionError


def write_whole(path: Path, content: bytes, *, mend: str = "make room, or choose another folder") -> None:
    """Write a file under its name only when all of it is on the disk; its folder is made.

    mend: what whoever reads the error can do.

    Raises:
        EmotionError: it cannot be written; what was there before is still there.

    """
    # In the same folder: a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise EmotionError(f"{path} cannot be written ({error.strerror or error}): {mend}") from error
    finally:
        if temporary.exists():
            temporary.unlink()
