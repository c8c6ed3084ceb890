"""Find or make the binary index of a shard set."""

from pathlib import Path
from typing import Any, TypeVar

import fsspec
import msgspec
from fsspec.implementations.local import LocalFileSystem

from emotion_runtime.bundle import sha256_of
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import atomic_file
from emotion_train.clips.format import INDEX_NAME, SCHEMA_VERSION, Shard
from emotion_train.clips.index import (
    BINARY_NAME,
    PREAMBLE,
    SET_CACHE,
    ClipIndex,
    cached_index,
    sha256_of_bytes,
    usable_index,
    write_binary,
)
from emotion_train.clips.read_errors import PREPARE_AGAIN, as_emotion_error, reading_errors

_T = TypeVar("_T")


class _Schema(msgspec.Struct):
    """The part of the index that all versions have."""

    schema: int


class _LazyIndex(msgspec.Struct, forbid_unknown_fields=True):
    """An `Index` whose shards are decoded one at a time, since millions of objects would fill the memory."""

    schema: int
    spec: dict[str, Any]
    clips: int
    frames: int
    shards: list[msgspec.Raw]


def open_index(location: str) -> ClipIndex:
    """Open the index of the shard set in a folder or under a URL.

    Raises:
        EmotionError: The index is missing, cannot be read, or has another version.
    """
    with as_emotion_error(f"{location}/{INDEX_NAME}"):
        files, root = fsspec.core.url_to_fs(location)
        if isinstance(files, LocalFileSystem):
            fingerprint = sha256_of(Path(root) / INDEX_NAME)
            places = (Path(root) / BINARY_NAME, cached_index(fingerprint))
            for path in places:
                index = usable_index(path, fingerprint)
                if index is not None:
                    return index
        else:
            copied = _copied(files, f"{root}/{BINARY_NAME}")
            if copied is not None:
                return copied
        text: bytes = files.cat_file(f"{root}/{INDEX_NAME}")
    return _converted(location, text)


def _copied(files: Any, remote: str) -> ClipIndex | None:
    """Return this machine's copy of a binary index on a server, which may have to be made; None without one.

    Its fingerprint is trusted, so that the much larger index.json need not be read.
    """
    try:
        preamble: bytes = files.cat_file(remote, start=0, end=PREAMBLE.size)
    except reading_errors():  # of a network failure, reading index.json will say more
        return None
    if len(preamble) < PREAMBLE.size:
        return None
    fingerprint = PREAMBLE.unpack(preamble[: PREAMBLE.size])[2].hex()
    path = cached_index(fingerprint)
    index = usable_index(path, fingerprint)
    if index is None:
        with files.open(remote, "rb") as source, atomic_file(path, fix=SET_CACHE) as target:
            while block := source.read(1 << 24):
                target.write(block)
        index = ClipIndex(path)
    return index


def _converted(location: str, text: bytes) -> ClipIndex:
    """Return the index in the content of index.json, from the binary form that this machine keeps of it."""
    fingerprint = sha256_of_bytes(text)
    path = cached_index(fingerprint)
    index = usable_index(path, fingerprint)
    if index is None:
        lazy = _decode_index(location, text)
        shards = (_decode(location, raw, Shard) for raw in lazy.shards)
        write_binary(path, fingerprint, lazy.spec, shards)
        index = ClipIndex(path)
        if (lazy.clips, lazy.frames) != (len(index), index.frames):
            path.unlink()
            raise EmotionError(
                f"{location}/{INDEX_NAME}: announces {lazy.clips} clips with {lazy.frames} frames, but lists "
                f"{len(index)} with {index.frames}; {PREPARE_AGAIN}"
            )
    return index


def _decode_index(location: str, index: bytes) -> _LazyIndex:
    schema = _decode(location, index, _Schema).schema
    if schema != SCHEMA_VERSION:
        raise EmotionError(
            f"{location}/{INDEX_NAME}: has schema {schema}, expected {SCHEMA_VERSION}: update the project "
            "or prepare the data again"
        )
    return _decode(location, index, _LazyIndex)


def _decode(location: str, data: bytes | msgspec.Raw, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise EmotionError(f"{location}/{INDEX_NAME}: {error}; {PREPARE_AGAIN}") from error
