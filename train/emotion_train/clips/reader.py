"""Random access to prepared clips in WebDataset shards, on a disk or in an object store.

A shard set is a folder, or a URL, of plain tar files and `index.json`. Every clip consists of the
consecutive members KEY.json, KEY.000.jpg, KEY.001.jpg ..., so `webdataset` can read the tar files too. The
index has the position of each clip and the sizes of its members, so a clip or a few of its frames are
fetched as byte ranges. Those of a whole batch are requested together.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from emotion_runtime.errors import EmotionError
from emotion_train.clips.format import BLOCK, END_BLOCKS, ClipRecord, member_starts
from emotion_train.clips.index import ClipEntry, ClipIndex
from emotion_train.clips.open_index import open_index
from emotion_train.clips.parts import ClipPart, checked_jpeg, parse_part
from emotion_train.clips.ranges import absolute, frame_ranges, joined_ranges, local_ranges, part_ranges
from emotion_train.clips.read_errors import (
    NO_RANGES,
    PREPARE_AGAIN,
    ReadError,
    as_emotion_error,
    retried,
)

_CHECKS = 16  # shards that are checked at the same time


class ShardSet:
    """The clips of a shard set, by index. It can be pickled; every process opens its own connections.

    Args:
        location: Folder or URL.
        index: Where each clip is.
        waits: Seconds to wait before a failed read is tried again, for each further try. After a read that
            failed for good, further reads are tried once until one succeeds.

    Attributes:
        location: Folder or URL.
        fingerprint: SHA-256 of index.json; two sets with equal fingerprints contain the same clips.
        spec: How the clips were made.
        frames: Number of frames of all clips.
        requests: Byte ranges that this process has requested so far.
        bytes: Bytes that this process has received so far.
    """

    def __init__(self, location: str, index: ClipIndex, waits: Sequence[float] = ()) -> None:
        self.location = location
        self.fingerprint, self.spec, self.frames = index.fingerprint, index.spec, index.frames
        self.requests = self.bytes = 0
        self._index = index
        self._process: int | None = None
        self._waits = tuple(waits)
        self._failing = False

    @classmethod
    def open(cls, location: str, waits: Sequence[float] = ()) -> "ShardSet":
        """Open the shard set in a folder or under a URL that fsspec supports (http, https, s3, gs ...).

        Args:
            location: Folder or URL.
            waits: See `ShardSet`.

        Raises:
            EmotionError: The index is missing, cannot be read, or has another version.
        """
        location = location.rstrip("/")
        return cls(location, retried(partial(open_index, location), waits), waits)

    def __len__(self) -> int:
        return len(self._index)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None, "_files": None, "_root": None, "_checked": None}

    def frame_count(self, index: int) -> int:
        """Return the number of frames of a clip, without reading it."""
        return self._index.frame_count(index)

    @property
    def keys(self) -> list[str]:
        """Names of all clips, which are read anew; for the name of one clip use `key`."""
        return self._index.keys()

    def key(self, index: int) -> str:
        """Return the name of a clip."""
        return self._index.key(index)

    def record(self, index: int) -> ClipRecord:
        """Read the record of a clip.

        Raises:
            EmotionError: The shard cannot be read, or is not the one that the index describes.
            IndexError: There is no such clip.
        """
        return self.read_part(index, []).record

    def read(self, index: int) -> ClipPart:
        """Read the record and all JPEG frames of a clip in one request. Raises the errors of `record`."""
        starts = member_starts((entry := self._index.entry(index)).sizes)
        (data,) = self._fetch(entry, [(0, int(starts[-1]))])
        frames = [
            data[start + BLOCK : start + BLOCK + size]
            for start, size in zip(starts[1:-1].tolist(), entry.sizes[1:].tolist(), strict=True)
        ]
        return parse_part(self._name(entry.shard), entry, [data[: BLOCK + int(entry.sizes[0])], *frames])

    def read_frames(self, index: int, frames: Sequence[int]) -> list[bytes]:
        """Read some frames of a clip. Raises the errors of `record`.

        Args:
            index: The clip.
            frames: Indices of frames, in any order.

        Returns:
            JPEG files, in the order of `frames`.
        """
        entry = self._index.entry(index)
        parts = self._fetch(entry, frame_ranges(index, entry, frames))
        name = self._name(entry.shard)
        return [checked_jpeg(name, entry, data) for data in parts]

    def read_part(self, index: int, frames: Sequence[int]) -> ClipPart:
        """Read the record and some frames of a clip. Raises the errors of `record`.

        Only these byte ranges are read; from an object store they are requested concurrently.
        """
        entry = self._index.entry(index)
        parts = self._fetch(entry, part_ranges(index, entry, frames))
        return parse_part(self._name(entry.shard), entry, parts)

    def read_together(self, wanted: Sequence[tuple[int, Sequence[int]]]) -> list[ClipPart | None]:
        """Read parts of several clips, with all requests in flight together and without repetitions.

        Args:
            wanted: Clips, and the indices of the frames to read of each.

        Returns:
            One for each clip; None where something went wrong: `read_part` tries again, and says what it was.
        """
        entries = [self._index.entry(clip) for clip, _ in wanted]
        ranges = [
            part_ranges(clip, entry, frames) for (clip, frames), entry in zip(wanted, entries, strict=True)
        ]
        return list(map(self._try_part, entries, self._fetch_together(entries, ranges)))

    def _try_part(self, entry: ClipEntry, parts: list[bytes] | None) -> ClipPart | None:
        try:
            return parse_part(self._name(entry.shard), entry, parts) if parts else None
        except EmotionError:
            return None

    def _fetch(self, entry: ClipEntry, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Read byte ranges, which are relative to the clip's first header; a failed read is tried again."""
        read = partial(self._fetch_once, entry, ranges)
        try:
            parts = retried(read, () if self._failing else self._waits)
        except ReadError:
            self._failing = True
            raise
        self._failing = False
        return parts

    def _fetch_once(self, entry: ClipEntry, ranges: list[tuple[int, int]]) -> list[bytes]:
        self._open_in_this_process()
        self._check_shard(entry.shard)
        with as_emotion_error(self._name(entry.shard)):
            parts = self._ranges([entry.shard] * len(ranges), absolute(entry, ranges), on_error="raise")
        for (start, end), part in zip(ranges, parts, strict=True):
            if len(part) != end - start:
                raise ReadError(
                    f"{self._name(entry.shard)}: got {len(part)} bytes, expected {end - start}; "
                    f"{PREPARE_AGAIN}"
                )
        return parts

    def _fetch_together(
        self, entries: Sequence[ClipEntry], ranges: Sequence[list[tuple[int, int]]]
    ) -> list[list[bytes] | None]:
        """Read byte ranges of several clips; None for a clip of which one could not be read."""
        self._open_in_this_process()
        usable = self._checked_together({entry.shard for entry in entries})
        chosen = [(entry, r) for entry, r in zip(entries, ranges, strict=True) if entry.shard in usable]
        shards = [entry.shard for entry, r in chosen for _ in r]
        parts = self._ranges(
            shards, [pair for entry, r in chosen for pair in absolute(entry, r)], on_error="return"
        )
        found: list[list[bytes] | None] = []
        for entry, wanted in zip(entries, ranges, strict=True):
            own = parts[: len(wanted)] if entry.shard in usable else []
            del parts[: len(own)]
            sizes = [len(part) if isinstance(part, bytes) else -1 for part in own]
            found.append(own if sizes == [end - start for start, end in wanted] else None)
        return found

    def _ranges(
        self, shards: Sequence[int], ranges: Sequence[tuple[int, int]], *, on_error: str
    ) -> list[bytes]:
        """Read absolute byte ranges of shards; with `on_error` "return", errors are among the results."""
        paths = [self._path(shard) for shard in shards]
        starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
        if isinstance(self._files, LocalFileSystem):
            parts = received = local_ranges(paths, starts, ends, on_error=on_error)
        else:
            parts, received = joined_ranges(self._files.cat_ranges, paths, starts, ends, on_error=on_error)
        self.requests += len(received)
        self.bytes += sum(len(part) for part in received if isinstance(part, bytes))
        return parts

    def _checked_together(self, shards: set[int]) -> set[int]:
        """Check shards that are new to this process at the same time; return those without a fault."""
        new = sorted(shards - self._checked)
        if len(new) > 1:
            with ThreadPoolExecutor(min(len(new), _CHECKS)) as pool:
                list(pool.map(self._try_shard, new))
        elif new:
            self._try_shard(new[0])
        return shards & self._checked

    def _try_shard(self, shard: int) -> None:
        with suppress(EmotionError):  # raised again when a clip of it is read by itself
            self._check_shard(shard)

    def _open_in_this_process(self) -> None:
        """Connect in this process, since connections do not survive a fork."""
        if self._process != os.getpid():
            self._files, self._root = fsspec.core.url_to_fs(self.location)
            self._checked: set[int] = set()
            self._process = os.getpid()

    def _check_shard(self, shard: int) -> None:
        """Check once that a shard has the right size, ends like a tar file and can be read in parts."""
        if shard in self._checked:
            return
        name, path, expected = self._name(shard), self._path(shard), self._index.shards[shard][1]
        with as_emotion_error(name):
            size = self._files.info(path)["size"]
        if size is not None and size != expected:
            raise EmotionError(
                f"{name}: has {size} bytes, expected {expected} as in the index; {PREPARE_AGAIN}"
            )
        tail = END_BLOCKS * BLOCK
        # Opened as a file without a cache, to detect a server without range requests before it sends the
        # whole shard.
        with as_emotion_error(name), self._files.open(path, "rb", cache_type="none") as file:
            if not file.seekable():
                raise EmotionError(f"{name}: {NO_RANGES}")
            file.seek(expected - tail)
            end = file.read(tail)
        if end != bytes(tail):
            raise EmotionError(f"{name}: is truncated, expected the end of a tar file; {PREPARE_AGAIN}")
        self._checked.add(shard)

    def _name(self, shard: int) -> str:
        return f"{self.location}/{self._index.shards[shard][0]}"

    def _path(self, shard: int) -> str:
        return f"{self._root}/{self._index.shards[shard][0]}"
