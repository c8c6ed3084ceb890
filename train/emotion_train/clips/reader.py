"""Random access to prepared clips in WebDataset shards, on a disk or in an object store.

A shard set is a folder, or a URL, of plain tar files and `index.json`. Every clip consists of the
consecutive members KEY.json, KEY.000.jpg, KEY.001.jpg ..., so `webdataset` can read the tar files too. The
index has the position of each clip and the sizes of its members, so a clip or a few of its frames are
fetched as byte ranges.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import fsspec
import msgspec
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_train.clips.format import (
    BLOCK,
    END_BLOCKS,
    INDEX_NAME,
    JPEG_START,
    SCHEMA_VERSION,
    ClipRecord,
    Shard,
    member_starts,
)

__all__ = ["ClipRecord", "ShardSet"]

PREPARE_AGAIN = "copy it again, or run emotion-train prepare-data again"

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


class ShardSet:
    """The clips of a shard set, by index. It can be pickled; every process opens its own connections.

    Args:
        location: Folder or URL.
        index: Content of its index.json.

    Attributes:
        location: Folder or URL.
        fingerprint: SHA-256 of index.json; two sets with equal fingerprints contain the same clips.
        spec: How the clips were made.
        keys: Names of the clips.
    """

    def __init__(self, location: str, index: bytes) -> None:
        lazy = _decode_index(location, index)
        self.location = location
        self.fingerprint = hashlib.sha256(index).hexdigest()
        self.spec = lazy.spec
        self.keys: list[str] = []
        self._shards: list[tuple[str, int]] = []  # name, bytes
        shard_of, offsets, lengths, sizes = [], [], [], []
        for raw in lazy.shards:
            shard = _decode(location, raw, Shard)
            for sample in shard.samples:
                self.keys.append(sample.key)
                shard_of.append(len(self._shards))
                offsets.append(sample.offset)
                lengths.append(len(sample.sizes))
            sizes.append(np.array([size for sample in shard.samples for size in sample.sizes], np.uint32))
            self._shards.append((shard.name, shard.bytes))
        self._shard_of = np.array(shard_of, np.int32)
        self._offsets = np.array(offsets, np.int64)
        self._first = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._sizes = np.concatenate([np.empty(0, np.uint32), *sizes])
        self._process: int | None = None
        if lazy.clips != len(self.keys) or lazy.frames != len(self._sizes) - len(self.keys):
            raise EmotionError(
                f"{location}/{INDEX_NAME}: announces {lazy.clips} clips with {lazy.frames} frames, but lists "
                f"{len(self.keys)} with {len(self._sizes) - len(self.keys)}; {PREPARE_AGAIN}"
            )

    @classmethod
    def open(cls, location: str) -> "ShardSet":
        """Open the shard set in a folder or under a URL that fsspec supports (http, https, s3, gs ...).

        Raises:
            EmotionError: The index is missing, cannot be read, or has another version.
        """
        location = location.rstrip("/")
        with _as_emotion_error(f"{location}/{INDEX_NAME}"):
            files, root = fsspec.core.url_to_fs(location)
            index: bytes = files.cat_file(f"{root}/{INDEX_NAME}")
        return cls(location, index)

    def __len__(self) -> int:
        return len(self.keys)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None, "_files": None, "_root": None, "_checked": None}

    def frame_count(self, index: int) -> int:
        """Return the number of frames of a clip, without reading it."""
        return int(self._first[index + 1] - self._first[index] - 1)

    def record(self, index: int) -> ClipRecord:
        """Read the record of a clip.

        Raises:
            EmotionError: The shard cannot be read, or is not the one that the index describes.
            IndexError: There is no such clip.
        """
        sizes, _ = self._members(index)
        (data,) = self._fetch(index, [(0, BLOCK + int(sizes[0]))])
        return self._parse(index, data)

    def read(self, index: int) -> tuple[ClipRecord, list[bytes]]:
        """Read the record and all JPEG frames of a clip in one request. Raises the errors of `record`."""
        sizes, starts = self._members(index)
        (data,) = self._fetch(index, [(0, int(starts[-1]))])
        record = self._parse(index, data[: BLOCK + int(sizes[0])])
        frames = [
            data[start + BLOCK : start + BLOCK + size]
            for start, size in zip(starts[1:-1].tolist(), sizes[1:].tolist(), strict=True)
        ]
        return record, [self._checked_jpeg(index, frame) for frame in frames]

    def read_frames(self, index: int, frames: Sequence[int]) -> list[bytes]:
        """Read some frames of a clip. Raises the errors of `record`.

        Only these byte ranges are read; from an object store they are requested concurrently.

        Args:
            index: The clip.
            frames: Indices of frames, in any order.

        Returns:
            JPEG files, in the order of `frames`.
        """
        sizes, starts = self._members(index)
        ranges = []
        for frame in frames:
            if not 0 <= frame < len(sizes) - 1:
                raise IndexError(f"frame {frame} of clip {index}, which has {len(sizes) - 1}")
            start = int(starts[frame + 1]) + BLOCK
            ranges.append((start, start + int(sizes[frame + 1])))
        return [self._checked_jpeg(index, data) for data in self._fetch(index, ranges)]

    def _members(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the sizes of a clip's members, and where they start."""
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        sizes = self._sizes[self._first[index] : self._first[index + 1]].astype(np.int64)
        return sizes, member_starts(sizes)

    def _fetch(self, index: int, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Read byte ranges, which are relative to the clip's first header."""
        shard, offset = int(self._shard_of[index]), int(self._offsets[index])
        self._open_in_this_process()
        if shard not in self._checked:
            self._check_shard(shard)
            self._checked.add(shard)
        path = f"{self._root}/{self._shards[shard][0]}"
        starts, ends = [offset + start for start, _ in ranges], [offset + end for _, end in ranges]
        with _as_emotion_error(self._name(shard)):
            parts: list[bytes] = self._files.cat_ranges([path] * len(ranges), starts, ends, on_error="raise")
        for start, end, part in zip(starts, ends, parts, strict=True):
            if len(part) != end - start:
                raise EmotionError(
                    f"{self._name(shard)}: got {len(part)} bytes, expected {end - start}; {PREPARE_AGAIN}"
                )
        return parts

    def _open_in_this_process(self) -> None:
        """Connect in this process, since connections do not survive a fork."""
        if self._process != os.getpid():
            self._files, self._root = fsspec.core.url_to_fs(self.location)
            self._checked: set[int] = set()
            self._process = os.getpid()

    def _check_shard(self, shard: int) -> None:
        """Check that a shard has the right size, ends like a tar file and can be read in parts."""
        name, expected = self._name(shard), self._shards[shard][1]
        path = f"{self._root}/{self._shards[shard][0]}"
        with _as_emotion_error(name):
            size = self._files.info(path)["size"]
        if size is not None and size != expected:
            raise EmotionError(
                f"{name}: has {size} bytes, expected {expected} as in the index; {PREPARE_AGAIN}"
            )
        tail = END_BLOCKS * BLOCK
        # Opened as a file without a cache, to detect a server without range requests before it sends the
        # whole shard.
        with _as_emotion_error(name), self._files.open(path, "rb", cache_type="none") as file:
            if not file.seekable():
                raise EmotionError(f"{name}: {_NO_RANGES}")
            file.seek(expected - tail)
            end = file.read(tail)
        if end != bytes(tail):
            raise EmotionError(f"{name}: is truncated, expected the end of a tar file; {PREPARE_AGAIN}")

    def _name(self, shard: int) -> str:
        return f"{self.location}/{self._shards[shard][0]}"

    def _parse(self, index: int, member: bytes) -> ClipRecord:
        """Decode the record from its member, which includes the header."""
        name = self._name(int(self._shard_of[index]))
        key = self.keys[index]
        if member[:100].rstrip(b"\0") != f"{key}.json".encode():
            raise EmotionError(
                f"{name}: {key}.json is not at the position that the index gives; {PREPARE_AGAIN}"
            )
        try:
            record = msgspec.json.decode(member[BLOCK:], type=ClipRecord)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise EmotionError(f"{name}: the record of {key} is invalid: {error}; {PREPARE_AGAIN}") from error
        if len(record.boxes) != self.frame_count(index):
            raise EmotionError(
                f"{name}: the record of {key} has boxes for {len(record.boxes)} frames, but the clip has "
                f"{self.frame_count(index)}; {PREPARE_AGAIN}"
            )
        return record

    def _checked_jpeg(self, index: int, data: bytes) -> bytes:
        if not data.startswith(JPEG_START):
            name = self._name(int(self._shard_of[index]))
            raise EmotionError(f"{name}: a frame of {self.keys[index]} is not a JPEG file; {PREPARE_AGAIN}")
        return data


_NO_RANGES = (
    "the server sends only whole files, expected support for Range requests; use another server, or copy the "
    "shards to a local folder"
)


@contextmanager
def _as_emotion_error(name: str) -> Iterator[None]:
    """Turn errors that fsspec raises about `name` into an `EmotionError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise EmotionError(
            f"{name}: does not exist or cannot be reached; expected the output of a finished run of "
            "emotion-train prepare-data"
        ) from error
    except ImportError as error:  # some URLs need another package
        raise EmotionError(f"{name}: {error}") from error
    except _reading_errors() as error:
        if "range requests" in str(error):
            raise EmotionError(f"{name}: {_NO_RANGES}") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EmotionError(f"{name}: cannot be read ({reason}); check the address and the network") from error


def _reading_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that are raised for unreadable files."""
    # fsspec imports aiohttp for http URLs only; not all of its errors are OSErrors.
    client = sys.modules.get("aiohttp")
    return (OSError, ValueError, client.ClientError) if client else (OSError, ValueError)


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
