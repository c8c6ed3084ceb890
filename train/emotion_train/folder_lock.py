"""One process at a time in a folder: two would overwrite each other's files."""

from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from emotion_runtime.errors import EmotionError


def locked(folder: Path) -> BaseFileLock:
    """Create a folder, and return its lock, which is held; the system releases it if the process is killed.

    Raises:
        EmotionError: Another run holds it, or the folder cannot be written.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout as error:
        raise EmotionError(
            f"{folder}: another run is using this folder; wait for it, or choose another --out"
        ) from error
    except OSError as error:
        raise EmotionError(
            f"--out {folder}: {error.strerror}; choose a folder that can be written"
        ) from error
    return lock
