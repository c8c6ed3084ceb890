"""Write a folder or a file completely or not at all."""

import errno
import json
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import MANIFEST

MODEL_CARD = "MODEL_CARD.md"
CARD_IMAGES = ("confusion.png", "reliability.png", "failures.png", "quality.png")


def check_destination(out: Path, name: str) -> None:
    """Check that `out` is a new or empty folder, or a bundle of the same name, which may be replaced.

    Args:
        out: The folder.
        name: Name of the bundle that will be written.

    Raises:
        EmotionError: `out` is a file, or contains another bundle or files that do not belong to one.
    """
    if out.exists() and not out.is_dir():
        raise EmotionError(f"--out {out} is a file: expected a folder to write the bundle to")
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    foreign = [
        name
        for name in names
        if name not in (MANIFEST, MODEL_CARD, *CARD_IMAGES) and not name.endswith((".onnx", ".safetensors"))
    ]
    if foreign or (names and MANIFEST not in names):
        raise EmotionError(
            f"--out {out} contains files that do not belong to a bundle "
            f"({', '.join((foreign or names)[:5])}) and would be lost: choose a new or an empty folder"
        )
    there = _name_of(out) if names else name
    if there not in (name, None):
        raise EmotionError(
            f"--out {out} contains the bundle {there!r}, which {name!r} would replace: choose another "
            "folder, or remove it first"
        )


def _name_of(bundle: Path) -> str | None:
    """Return the name of a bundle; None if its manifest cannot be read, which any may replace."""
    try:
        return str(json.loads((bundle / MANIFEST).read_bytes())["name"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Yield a new folder beside `out`, which replaces `out` if the block succeeds and is removed if it fails.

    Raises:
        EmotionError: The files cannot be written, for example on a full or read-only disk.
    """
    new, old = (out.with_name(f".{out.name}.{_unique()}.{state}") for state in ("new", "old"))
    made = _missing_parents(out)
    try:
        new.mkdir(parents=True)
        yield new
        _put_in_place(new, out, old)
    except OSError as error:
        raise _not_written("folder", out, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        _remove_if_empty(made)


@contextmanager
def atomic_path(out: Path) -> Iterator[Path]:
    """Yield a path in a new folder beside `out`; the file written there replaces `out` if the block succeeds.

    Unlike `emotion_runtime.files.atomic_file`, this serves exporters that open the file themselves and write
    others beside it.

    Raises:
        EmotionError: `out` is a folder, or the file cannot be written.
    """
    if out.is_dir():
        raise EmotionError(f"--out {out} is a folder: expected the name of a file, for example {out}/m.onnx")
    folder = out.with_name(f".{out.name}.{_unique()}.new")
    made = _missing_parents(out)
    try:
        folder.mkdir(parents=True)
        yield folder / out.name
        (folder / out.name).replace(out)
    except OSError as error:
        raise _not_written("file", out, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _remove_if_empty(made)


def _unique() -> str:
    """Return a random name: process ids repeat in containers that share a disk."""
    return secrets.token_hex(4)


def _not_written(what: str, out: Path, error: OSError) -> EmotionError:
    full = "free disk space, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return EmotionError(
        f"{what} {out} cannot be written: {error.strerror or error}; {full}choose another --out, in a folder "
        "that you can write to"
    )


def _missing_parents(out: Path) -> list[Path]:
    return [folder for folder in out.parents if not folder.exists()]


def _remove_if_empty(folders: Collection[Path]) -> None:
    """Remove the empty ones of the folders that were created for `out`, deepest first."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _put_in_place(new: Path, out: Path, old: Path) -> None:
    """Rename `new` to `out`; a folder that is replaced has the name `old` in the meantime."""
    replaced = out.exists()
    if replaced:
        out.rename(old)  # renaming cannot replace a folder that is not empty
    try:
        new.rename(out)
    except BaseException:
        if replaced:
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
