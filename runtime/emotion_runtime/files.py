"""Write files atomically: a reader sees the old content or the new content, never a part."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from emotion_runtime.errors import EmotionError


def make_folder(folder: Path) -> None:
    """Create a folder for output, and those above it.

    Raises:
        EmotionError: It cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise EmotionError(
            f"folder {folder} cannot be created: there is a file of this name; give another folder"
        ) from error
    except OSError as error:
        raise EmotionError(
            f"folder {folder} cannot be created ({error.strerror}); give a folder that you can write to"
        ) from error


def with_home(path: str) -> str:
    """Return a path with the home folder of this user in the place of a leading `~/`.

    Shells do that only for a word that begins so: not in `--jsonl=~/x`, and not in what systemd, Docker and
    TOML files hold.

    Raises:
        EmotionError: The user has no home folder.
    """
    if not path.startswith("~/"):
        return path
    try:
        # As text, since a slash at the end has a meaning. In containers, the home folder may be /.
        return f"{str(Path.home()).rstrip('/')}{path[1:]}"
    except RuntimeError as error:  # no HOME, and a user id without an entry, as in some containers
        raise EmotionError(
            "a path begins with ~/, but this user has no home folder; give the whole path"
        ) from error


def readable(name: str) -> str:
    """Return a name with U+FFFD for bytes that are not UTF-8, which names of files may hold."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "replace")


class WriteError(EmotionError):
    """A file that cannot be written: the fault of the disk or the folder, not of the data."""


@contextmanager
def atomic_file(path: Path, *, fix: str = "free disk space, or choose another folder") -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`, which becomes `path` when the block ends without an error.

    The folder of `path` is created; of a symbolic link, the file that it leads to is written. If the block
    raises, `path` is as it was and the temporary file is gone; a process that is killed leaves the temporary
    file behind (see `remove_leftovers`).

    Args:
        path: The file to write.
        fix: What the user can do, for the error message.

    Raises:
        WriteError: The file cannot be written. Other errors of the block pass through, including an OSError
            about another file.
    """
    # In the same folder, since a rename is atomic only within one file system. The name is random: process
    # ids repeat in containers that share a disk.
    place = _behind_links(path)
    temporary = place.with_name(f".{place.name}.{secrets.token_hex(8)}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # a rename can reach the disk before the data does
        temporary.replace(place)
    except OSError as error:
        if error.filename not in (None, str(temporary), str(place), str(place.parent)):
            raise  # the block failed on another file
        raise WriteError(f"{path} cannot be written ({error.strerror or error}): {fix}") from error
    finally:
        with suppress(OSError):  # it does not exist if its folder could not be created
            temporary.unlink()


def _behind_links(path: Path) -> Path:
    """Return the file that a symbolic link leads to, or the link itself if that is a device or a folder."""
    if not path.is_symlink():
        return path
    target = Path(os.path.realpath(path))
    return path if target.exists() and not target.is_file() else target


def write_atomically(path: Path, content: bytes | str, **options: str) -> None:
    """Write a whole file at once; text is encoded as UTF-8. For options and errors see `atomic_file`."""
    with atomic_file(path, **options) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Remove temporary files that killed processes left in a folder; no process may be writing there.

    Args:
        folder: The folder that `atomic_file` wrote to.
        name: Pattern of the final names, for example "*.engine".
    """
    for path in folder.glob(f".{name}.*.tmp"):
        with suppress(OSError):  # another user's file, which only takes up space
            path.unlink()
