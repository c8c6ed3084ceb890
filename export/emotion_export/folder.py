"""Putting a folder or a file in place whole or not at all, whatever happens on the way."""

import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import MANIFEST

MODEL_CARD = "MODEL_CARD.md"
CARD_IMAGES = ("confusion.png", "reliability.png", "failures.png")


def check_destination(out: Path) -> None:
    """Replace a bundle, and never anything else.

    Raises:
        EmotionError: `out` is a file, or holds files that are not a bundle's.

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
            f"--out {out} holds files that are no bundle's ({', '.join((foreign or names)[:5])}), which "
            "would be lost: choose a new or an empty folder"
        )


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """A new folder beside `out` that takes its place if the block succeeds, and is removed if it does not.

    Raises:
        EmotionError: the disk is full or read-only, or something else keeps the files from being written.

    """
    new, old = (out.with_name(f".{out.name}.{_unique()}.{state}") for state in ("new", "old"))
    made = _missing_parents(out)
    try:
        new.mkdir(parents=True)
        yield new
        _put_in_place(new, out, old)
    except OSError as error:
        raise _not_written("bundle", out, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        _remove_if_empty(made)


@contextmanager
def atomic_path(out: Path) -> Iterator[Path]:
    """The same for one file. The block is given the file's name in a folder of its own, beside `out`."""
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
    """No process number: in containers that share a disk these are the same, again and again."""
    return secrets.token_hex(4)


def _not_written(what: str, out: Path, error: OSError) -> EmotionError:
    return EmotionError(
        f"{what} {out} cannot be written: {error.strerror or error}; free space on its disk, or choose "
        "another --out"
    )


def _missing_parents(out: Path) -> list[Path]:
    return [folder for folder in out.parents if not folder.exists()]


def _remove_if_empty(folders: Collection[Path]) -> None:
    """Folders that were made for `out`, deepest first: none stays when nothing was put into it."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _put_in_place(new: Path, out: Path, old: Path) -> None:
    """Rename `new` to `out`; `old` is the name under which what was there waits meanwhile."""
    replaced = out.exists()
    if replaced:
        out.rename(old)  # a folder that is not empty cannot be renamed over
    try:
        new.rename(out)
    except BaseException:
        if replaced:
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
