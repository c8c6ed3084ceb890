"""Features on disk, so that a second probe of a checkpoint need not look at the pictures again.

A file is named and marked by all that its numbers depend on; one that is torn or is another's is computed
again, and said so.
"""

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_runtime.preprocess import PreprocessSpec

_log = logging.getLogger(__name__)

Cached = tuple[NDArray[np.int64], NDArray[np.float32]]  # rows (N,), features (N, D)


class CacheKey(msgspec.Struct, frozen=True):
    """What features depend on.

    samples: how many there are; rows are numbers below it. fingerprint: of their keys, pictures and boxes.
    What is not noticed is a picture that was replaced by another under its old name.
    """

    checkpoint_sha256: str
    preprocess: PreprocessSpec
    kind: str
    dataset: str
    split: str
    samples: int
    fingerprint: str

    def path(self, folder: Path) -> Path:
        """Where its features lie."""
        digest = hashlib.sha256(msgspec.json.encode(self)).hexdigest()
        return folder / f"{self.dataset}-{self.split}-{digest[:16]}.safetensors"


def cached(folder: Path, key: CacheKey, compute: Callable[[], Cached]) -> Cached:
    """Read the features of `key`, or compute and keep them.

    report: is told why a file that is there is not used.

    Raises:
        EmotionError: the folder cannot be written to, or what `compute` raises.

    """
    path = key.path(folder)
    if path.is_file():
        found = _read(path, key)
        if not isinstance(found, str):
            return found
        _log.warning("cached features %s %s: computing them again", path, found)
    rows, features = compute()
    _write(path, key, rows, features)
    return rows, features


def _read(path: Path, key: CacheKey) -> Cached | str:
    """The features, or what is wrong with the file."""
    try:
        with safe_open(str(path), framework="numpy") as file:
            marks = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        return f"cannot be read ({error})"
    try:
        found = msgspec.json.decode(marks.get("key", ""), type=CacheKey)
    except (msgspec.DecodeError, EmotionError):  # a preprocess spec refuses bad values by itself
        return "do not say what they are of"
    if found != key:
        differing = [
            name for name in CacheKey.__struct_fields__ if getattr(found, name) != getattr(key, name)
        ]
        return f"are of another {', '.join(differing)}"
    rows, features = tensors.get("rows"), tensors.get("features")
    if rows is None or features is None or features.ndim != 2 or rows.shape != features.shape[:1]:
        return "lack a part"
    if len(rows) > key.samples or not np.isfinite(features).all():
        return "hold numbers that cannot be"
    return rows, features


def _write(path: Path, key: CacheKey, rows: NDArray[np.int64], features: NDArray[np.float32]) -> None:
    content = save(
        {"rows": np.ascontiguousarray(rows), "features": np.ascontiguousarray(features)},
        {"key": msgspec.json.encode(key).decode()},
    )
    write_atomically(path, content, fix="free disk space, or give another folder as --cache")
