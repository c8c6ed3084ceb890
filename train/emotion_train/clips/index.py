"""The binary index of a shard set: it says where each clip is, and is read only where it is needed.

index.json says the same. To decode it takes half a minute for a million clips, and all of it would be in the
memory of every worker. So `emotion-train prepare-data` writes this file beside it; for a set without one, or
on a server, it is made or copied once per machine, see `cached_index`.

It is read like any file, instead of being mapped into memory: of a mapped file, all pages that were ever read
count as memory of the process, which after an epoch is the whole file.

    preamble    magic, length of the header, SHA-256 of index.json
    header      JSON, see `_Header`
    rows        one `_Row` per clip
    sizes       uint32 sizes of the members of all clips, bytes without tar headers
"""

import hashlib
import os
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import atomic_file
from emotion_train.clips.format import ClipLocation, Shard

if TYPE_CHECKING:
    from io import FileIO

BINARY_NAME = "index.bin"
PREAMBLE = struct.Struct("<8sQ32s")
_MAGIC = b"EMOCLIP1"
SET_CACHE = "set EMOTION_INDEX_CACHE to a folder that can be written"


class _Header(msgspec.Struct, frozen=True):
    """What a binary index says of the whole set.

    Attributes:
        spec: How the clips were made.
        clips: Number of clips.
        members: Number of members of all clips: a record and the frames of each.
        key_bytes: Length of the longest key.
        shards: Name and size in bytes of each tar file.
    """

    spec: dict[str, Any]
    clips: int
    members: int
    key_bytes: int
    shards: list[tuple[str, int]]


class ClipEntry(NamedTuple):
    """Where a clip is.

    Attributes:
        key: Its name.
        shard: Number of its shard.
        offset: Where the header of its first member starts, bytes.
        sizes: (M,) int64, sizes of its members without headers, bytes: the record, then each frame.
    """

    key: str
    shard: int
    offset: int
    sizes: NDArray[np.int64]


class ClipIndex:
    """An open binary index. It can be pickled; every process opens the file for itself.

    Args:
        path: The file.

    Attributes:
        fingerprint: SHA-256 of the index.json that it was made from.
        spec: How the clips were made.
        shards: Name and size in bytes of each tar file.
        frames: Number of frames of all clips.

    Raises:
        EmotionError: The file is missing, corrupt, or not a binary index.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                magic, length, digest = PREAMBLE.unpack(file.read(PREAMBLE.size))
                header = msgspec.json.decode(file.read(length), type=_Header) if magic == _MAGIC else None
            size = path.stat().st_size
        except (OSError, struct.error, msgspec.DecodeError, OverflowError, MemoryError) as error:
            raise EmotionError(f"{path}: not a binary index, or corrupt ({error}); delete it") from error
        if header is None:
            raise EmotionError(f"{path}: not a binary index of this version; delete it")
        self.fingerprint: str = digest.hex()
        self.spec, self.shards = header.spec, header.shards
        self.frames = header.members - header.clips
        self._clips = header.clips
        self._row = _row_type(header.key_bytes)
        self._rows_at = PREAMBLE.size + length
        self._sizes_at = self._rows_at + header.clips * self._row.itemsize
        self._file: FileIO | None = None
        if size != self._sizes_at + 4 * header.members:
            raise EmotionError(f"{path}: is truncated; delete it")

    def __len__(self) -> int:
        return self._clips

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def entry(self, clip: int) -> ClipEntry:
        """Return where a clip is."""
        row = self._row_of(clip)
        count = int(row["members"])
        sizes = np.frombuffer(self._read(self._sizes_at + 4 * int(row["first"]), 4 * count), "<u4")
        return ClipEntry(self._key_of(row), int(row["shard"]), int(row["offset"]), sizes.astype(np.int64))

    def key(self, clip: int) -> str:
        """Return the name of a clip."""
        return self._key_of(self._row_of(clip))

    def keys(self) -> list[str]:
        """Return the names of all clips."""
        rows = np.frombuffer(self._read(self._rows_at, self._clips * self._row.itemsize), self._row)
        return [key.decode() for key in rows["key"].tolist()]

    def frame_count(self, clip: int) -> int:
        """Return the number of frames of a clip."""
        return int(self._row_of(clip)["members"]) - 1

    def _row_of(self, clip: int) -> np.void:
        if not 0 <= clip < self._clips:
            raise IndexError(f"clip {clip} of {self._clips}")
        data = self._read(self._rows_at + clip * self._row.itemsize, self._row.itemsize)
        row: np.void = np.frombuffer(data, self._row)[0]
        return row

    @staticmethod
    def _key_of(row: np.void) -> str:
        key: bytes = row["key"]
        return key.decode()

    def _read(self, start: int, size: int) -> bytes:
        if self._file is None:
            try:
                self._file = self.path.open("rb", buffering=0)
            except OSError as error:
                raise EmotionError(f"{self.path}: {error.strerror}; start the run again") from error
        return os.pread(self._file.fileno(), size, start)  # a forked child may share the file: no position


def _row_type(key_bytes: int) -> np.dtype[np.void]:
    return np.dtype(
        [
            ("offset", "<u8"),
            ("first", "<u8"),  # member of the clip, counted over all clips
            ("shard", "<u4"),
            ("members", "<u4"),
            ("key", f"S{key_bytes}"),
        ]
    )


def write_binary(
    path: Path, fingerprint: str, spec: dict[str, Any], shards: Iterable[Shard], *, fix: str = SET_CACHE
) -> None:
    """Write a binary index atomically.

    Args:
        path: Where to.
        fingerprint: SHA-256 of index.json.
        spec: How the clips were made.
        shards: The shards, each used once.
        fix: What the user can do if it cannot be written.

    Raises:
        WriteError: The file cannot be written.
    """
    names: list[tuple[str, int]] = []
    rows: list[NDArray[np.void]] = []
    sizes: list[NDArray[np.uint32]] = []
    clips = members = 0
    for shard in shards:
        rows.append(_rows(shard.samples, len(names), members))
        sizes.append(np.array([size for sample in shard.samples for size in sample.sizes], "<u4"))
        names.append((shard.name, shard.bytes))
        clips += len(rows[-1])
        members += len(sizes[-1])
    key_bytes = max((part["key"].dtype.itemsize for part in rows), default=1)
    header = msgspec.json.encode(_Header(spec, clips, members, key_bytes, names))
    with atomic_file(path, fix=fix) as file:
        file.write(PREAMBLE.pack(_MAGIC, len(header), bytes.fromhex(fingerprint)))
        file.write(header)
        for part in rows:
            file.write(part.astype(_row_type(key_bytes)).tobytes())
        for lengths in sizes:
            file.write(lengths.tobytes())


def _rows(samples: Sequence[ClipLocation], shard: int, first: int) -> NDArray[np.void]:
    """Return the rows of the clips of a shard; `first` counts the members before it."""
    keys = np.array([sample.key.encode() for sample in samples], np.bytes_)
    counts = np.array([len(sample.sizes) for sample in samples], np.int64)
    rows = np.zeros(len(samples), _row_type(max(keys.dtype.itemsize, 1)))
    rows["key"], rows["members"], rows["shard"] = keys, counts, shard
    rows["offset"] = [sample.offset for sample in samples]
    rows["first"] = first + np.cumsum(counts) - counts
    return rows


def cached_index(fingerprint: str) -> Path:
    """Return where this machine keeps the binary index of the set whose index.json has this SHA-256.

    The folder is `$EMOTION_INDEX_CACHE`, else `$XDG_CACHE_HOME/emotion-train/indexes`.
    """
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = os.environ.get("EMOTION_INDEX_CACHE") or user_cache / "emotion-train" / "indexes"
    return Path(folder) / f"{fingerprint}.bin"


def usable_index(path: Path, fingerprint: str) -> ClipIndex | None:
    """Return a binary index if it is there, whole, and of the set with this fingerprint."""
    try:
        index = ClipIndex(path)
    except EmotionError:  # it will be made again from index.json, of which it is a copy
        return None
    return index if index.fingerprint == fingerprint else None


def sha256_of_bytes(data: bytes) -> str:
    """Return the hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()
