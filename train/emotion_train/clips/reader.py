"""Prepared clips as WebDataset shards, read at random from a disk or an object store.

A shard set is a folder, or a URL, of plain tar files and `index.json`. Every clip is the members KEY.json,
KEY.000.jpg, KEY.001.jpg ... in a row, so `webdataset` reads the tars as they are. The index says where each
clip begins and how long its members are; with that, a clip or a few of its frames are fetched as byte ranges.
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
    """What every version of the index has."""

    schema: int


class _LazyIndex(msgspec.Struct, forbid_unknown_fields=True):
    """An `Index` whose shards are decoded one by one: millions of small objects would fill the memory."""

    schema: int
    spec: dict[str, Any]
    clips: int
    frames: int
    shards: list[msgspec.Raw]


class ShardSet:
    """The clips of a shard set, by number. Picklable; every process opens its own connections.

    fingerprint: sha256 of index.json: two sets of one fingerprint hold the same clips.
    spec: how the clips were made.
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
                f"{location}/{INDEX_NAME}: states {lazy.clips} clips of {lazy.frames} frames, lists "
                f"{len(self.keys)} of {len(self._sizes) - len(self.keys)}; {PREPARE_AGAIN}"
            )

    @classmethod
    def open(cls, location: str) -> "ShardSet":
        """Open the shard set in a folder or under a URL that fsspec knows (http, https, s3, gs ...).

        Raises:
            EmotionError: there is no index, it cannot be reached, or it is of another version.

        """
        location = location.rstrip("/")
        with _said_in_one_line(f"{location}/{INDEX_NAME}"):
            files, root = fsspec.core.url_to_fs(location)
            index: bytes = files.cat_file(f"{root}/{INDEX_NAME}")
        return cls(location, index)

    def __len__(self) -> int:
        return len(self.keys)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None, "_files": None, "_root": None, "_checked": None}

    def frames_of(self, number: int) -> int:
        """How many frames clip `number` has; nothing is read."""
        return int(self._first[number + 1] - self._first[number] - 1)

    def record(self, number: int) -> ClipRecord:
        """The record of clip `number`.

        Raises:
            EmotionError: the shard cannot be read, or is not the one that the index speaks of.
            IndexError: there is no such clip.

        """
        sizes, _ = self._members(number)
        (data,) = self._fetch(number, [(0, BLOCK + int(sizes[0]))])
        return self._parse(number, data)

    def read(self, number: int) -> tuple[ClipRecord, list[bytes]]:
        """The record and all JPEG frames, in order, of clip `number`, in one request. Raises as `record`."""
        sizes, starts = self._members(number)
        (data,) = self._fetch(number, [(0, int(starts[-1]))])
        record = self._parse(number, data[: BLOCK + int(sizes[0])])
        frames = [
            data[start + BLOCK : start + BLOCK + size]
            for start, size in zip(starts[1:-1].tolist(), sizes[1:].tolist(), strict=True)
        ]
        return record, [self._checked_jpeg(number, frame) for frame in frames]

    def read_frames(self, number: int, which: Sequence[int]) -> list[bytes]:
        """JPEG bytes of the given frames of clip `number`, as ordered in `which`. Raises as `record`.

        Only these byte ranges are read; of an object store, at the same time.
        """
        sizes, starts = self._members(number)
        ranges = []
        for frame in which:
            if not 0 <= frame < len(sizes) - 1:
                raise IndexError(f"frame {frame} of clip {number}, which has {len(sizes) - 1}")
            start = int(starts[frame + 1]) + BLOCK
            ranges.append((start, start + int(sizes[frame + 1])))
        return [self._checked_jpeg(number, data) for data in self._fetch(number, ranges)]

    def _members(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sizes of the members of a clip, and where they start."""
        if not 0 <= number < len(self):
            raise IndexError(f"clip {number} of {len(self)}")
        sizes = self._sizes[self._first[number] : self._first[number + 1]].astype(np.int64)
        return sizes, member_starts(sizes)

    def _fetch(self, number: int, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Bytes of ranges that are relative to the clip's first header."""
        shard, offset = int(self._shard_of[number]), int(self._offsets[number])
        self._open_in_this_process()
        if shard not in self._checked:
            self._check_shard(shard)
            self._checked.add(shard)
        path = f"{self._root}/{self._shards[shard][0]}"
        starts, ends = [offset + start for start, _ in ranges], [offset + end for _, end in ranges]
        with _said_in_one_line(self._name(shard)):
            parts: list[bytes] = self._files.cat_ranges([path] * len(ranges), starts, ends, on_error="raise")
        for start, end, part in zip(starts, ends, parts, strict=True):
            if len(part) != end - start:
                raise EmotionError(
                    f"{self._name(shard)}: asked for bytes {start} to {end}, got {len(part)}; {PREPARE_AGAIN}"
                )
        return parts

    def _open_in_this_process(self) -> None:
        """Connections do not survive a fork, so each process has its own."""
        if self._process != os.getpid():
            self._files, self._root = fsspec.core.url_to_fs(self.location)
            self._checked: set[int] = set()
            self._process = os.getpid()

    def _check_shard(self, shard: int) -> None:
        """Once a process: the shard has its size, ends as a tar file does, and can be read in parts."""
        name, expected = self._name(shard), self._shards[shard][1]
        path = f"{self._root}/{self._shards[shard][0]}"
        with _said_in_one_line(name):
            size = self._files.info(path)["size"]
        if size is not None and size != expected:
            raise EmotionError(f"{name}: {size} bytes, the index says {expected}; {PREPARE_AGAIN}")
        tail = END_BLOCKS * BLOCK
        # As a file, without a cache: a server that would send the whole shard is found out before it has.
        with _said_in_one_line(name), self._files.open(path, "rb", cache_type="none") as file:
            if not file.seekable():
                raise EmotionError(f"{name}: {_NO_RANGES}")
            file.seek(expected - tail)
            end = file.read(tail)
        if end != bytes(tail):
            raise EmotionError(f"{name}: does not end as a tar file does; {PREPARE_AGAIN}")

    def _name(self, shard: int) -> str:
        return f"{self.location}/{self._shards[shard][0]}"

    def _parse(self, number: int, member: bytes) -> ClipRecord:
        """The record from its member, header included."""
        name = self._name(int(self._shard_of[number]))
        key = self.keys[number]
        if member[:100].rstrip(b"\0") != f"{key}.json".encode():
            raise EmotionError(f"{name}: no {key}.json where the index says; {PREPARE_AGAIN}")
        try:
            record = msgspec.json.decode(member[BLOCK:], type=ClipRecord)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise EmotionError(f"{name}: record of {key} is wrong: {error}; {PREPARE_AGAIN}") from error
        if len(record.boxes) != self.frames_of(number):
            raise EmotionError(
                f"{name}: record of {key} has boxes of {len(record.boxes)} frames, the clip has "
                f"{self.frames_of(number)}; {PREPARE_AGAIN}"
            )
        return record

    def _checked_jpeg(self, number: int, data: bytes) -> bytes:
        if not data.startswith(JPEG_START):
            name = self._name(int(self._shard_of[number]))
            raise EmotionError(f"{name}: a frame of {self.keys[number]} is no JPEG; {PREPARE_AGAIN}")
        return data


_NO_RANGES = (
    "the server sends whole files only, expected one that answers Range requests; use another, or copy the "
    "shards to a local folder"
)


@contextmanager
def _said_in_one_line(name: str) -> Iterator[None]:
    """What fsspec raises about `name`, as a user's error."""
    try:
        yield
    except FileNotFoundError as error:
        raise EmotionError(
            f"{name}: no such file, or it cannot be reached; expected what a finished run of "
            "emotion-train prepare-data writes"
        ) from error
    except ImportError as error:  # the file system of a URL is a package of its own
        raise EmotionError(f"{name}: {error}") from error
    except _reading_errors() as error:
        if "range requests" in str(error):
            raise EmotionError(f"{name}: {_NO_RANGES}") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise EmotionError(f"{name}: cannot be read ({reason}); check the address and the network") from error


def _reading_errors() -> tuple[type[Exception], ...]:
    """What a file that cannot be read is told by."""
    # fsspec imports the client, and only for a URL; not all of its errors are OSErrors.
    client = sys.modules.get("aiohttp")
    return (OSError, ValueError, client.ClientError) if client else (OSError, ValueError)


def _decode_index(location: str, index: bytes) -> _LazyIndex:
    schema = _decode(location, index, _Schema).schema
    if schema != SCHEMA_VERSION:
        raise EmotionError(
            f"{location}/{INDEX_NAME}: schema {schema}, this version reads {SCHEMA_VERSION}: update the "
            "project, or prepare the data again"
        )
    return _decode(location, index, _LazyIndex)


def _decode(location: str, data: bytes | msgspec.Raw, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise EmotionError(f"{location}/{INDEX_NAME}: {error}; {PREPARE_AGAIN}") from error
