"""Writing the tars that `emotion_train.clips.reader` reads: the same clips give the same bytes."""

import io
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from emotion_runtime.bundle import sha256_of
from emotion_runtime.files import atomic_file
from emotion_train.clips.format import ClipLocation, ClipRecord, Shard, member_starts

NAME_LIMIT = 100  # bytes of a member's name in its header; a longer one would need a header of its own


RUN_AGAIN = "free disk space or choose another folder, then run the same command again: finished work is kept"


class ClipWriter:
    """Appends clips to an open tar; made by `write_tar`."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.samples: list[ClipLocation] = []

    def add(self, key: str, record: ClipRecord, frames: Sequence[bytes]) -> None:
        """Append a clip. key: letters, digits, `-`, `_`. frames: JPEG, one for each of `record.boxes`.

        Raises:
            OSError: The disk is full; `write_tar` turns it into a `WriteError`.

        """
        if len(frames) != len(record.boxes) or not frames:
            raise ValueError(f"{key}: {len(frames)} frames, boxes of {len(record.boxes)}")
        offset = self._tar.offset
        members = [("json", msgspec.json.encode(record))]
        members += [(f"{number:03d}.jpg", frame) for number, frame in enumerate(frames)]
        for suffix, data in members:
            header = tarfile.TarInfo(f"{key}.{suffix}")  # its time is 0, its owner is nobody
            if len(header.name.encode()) > NAME_LIMIT:
                raise ValueError(f"member name {header.name!r} is longer than {NAME_LIMIT} bytes")
            header.size = len(data)
            self._tar.addfile(header, io.BytesIO(data))
        sizes = [len(data) for _, data in members]
        if self._tar.offset - offset != member_starts(sizes)[-1]:
            raise ValueError(f"{key}: the tar is not laid out as its readers expect")
        self.samples.append(ClipLocation(key, offset, sizes))


@contextmanager
def write_tar(path: Path) -> Iterator[ClipWriter]:
    """A new tar of clips at `path`: whole when the block has ended, else not there at all.

    Raises:
        WriteError: The file cannot be written.

    """
    with atomic_file(path, fix=RUN_AGAIN) as file:
        tar = tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - closed below
        yield ClipWriter(tar)
        tar.close()  # writes the end of the archive: only when all went well


def shard_of(path: Path, samples: list[ClipLocation]) -> Shard:
    """The index's entry of a written tar."""
    return Shard(path.name, path.stat().st_size, sha256_of(path), samples)
