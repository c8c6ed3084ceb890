"""Keep features on disk, so that a second probe of a checkpoint does not encode the images again.

A file is named after everything that its content depends on, and also stores it. A file that is corrupt or
belongs to other inputs is computed again, with a warning.
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
    """Everything that features depend on.

    Attributes:
        checkpoint_sha256: Of the model.
        preprocess: How images are cropped and scaled.
        kind: "video" or "image", see `FeatureKind`.
        dataset: Name of the data set.
        split: Name of the split.
        samples: Number of samples; row indices are below it.
        fingerprint: Hash of the samples' keys, boxes and files, see `samples.fingerprint`.
    """

    checkpoint_sha256: str
    preprocess: PreprocessSpec
    kind: str
    dataset: str
    split: str
    samples: int
    fingerprint: str

    def path(self, folder: Path) -> Path:
        """Return the path of the features in the cache folder."""
        digest = hashlib.sha256(msgspec.json.encode(self)).hexdigest()
        return folder / f"{self.dataset}-{self.split}-{digest[:16]}.safetensors"


def cached(folder: Path, key: CacheKey, compute: Callable[[], Cached]) -> Cached:
    """Read the features of `key`, or compute and store them.

    Args:
        folder: Of the cache.
        key: What the features depend on.
        compute: Called if there is no valid file.

    Raises:
        EmotionError: The folder cannot be written to. Errors of `compute` pass through.
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
    """Return the features, or what is wrong with the file."""
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        return f"cannot be read ({error})"
    try:
        found = msgspec.json.decode(metadata.get("key", ""), type=CacheKey)
    except (msgspec.DecodeError, EmotionError):  # raised by a preprocess spec with bad values
        return "do not state what they depend on"
    if found != key:
        differing = [
            name for name in CacheKey.__struct_fields__ if getattr(found, name) != getattr(key, name)
        ]
        return f"have another {', '.join(differing)}"
    rows, features = tensors.get("rows"), tensors.get("features")
    if rows is None or features is None or features.ndim != 2 or rows.shape != features.shape[:1]:
        return "are incomplete"
    if len(rows) > key.samples or not np.isfinite(features).all():
        return "hold invalid values"
    return rows, features


def _write(path: Path, key: CacheKey, rows: NDArray[np.int64], features: NDArray[np.float32]) -> None:
    content = save(
        {"rows": np.ascontiguousarray(rows), "features": np.ascontiguousarray(features)},
        {"key": msgspec.json.encode(key).decode()},
    )
    write_atomically(path, content, fix="free disk space, or give another folder as --cache")
