"""Writing the tars that `emotion_train.clips.reader` reads: the same clips give the same bytes."""

import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from emotion_runtime.bundle import sha256_of
from emotion_runtime.errors import EmotionError
from emotion_train.clips.format import ClipRecord, Sample, Shard, member_starts

NAME_LIMIT = 100  # bytes of a member's name in its header; a longer one would need a header of its own


class CannotWrite(EmotionError):  # noqa: N818 - reads as what happened
    """A file that could not be written: no fault of one video, so the run stops."""


class ClipWriter:
    """Appends clips to an open tar; made by `write_tar`."""

    def __init__(self, tar: tarfile.TarFile, path: Path) -> None:
        self._tar, self._path = tar, path
        self.samples: list[Sample] = []

    def add(self, key: str, record: ClipRecord, frames: Sequence[bytes]) -> None:
        """Append a clip. key: letters, digits, `-`, `_`. frames: JPEG, one for each of `record.boxes`.

        Raises:
            CannotWrite: no space.

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
            with _writing(self._path):
                self._tar.addfile(header, io.BytesIO(data))
        sizes = [len(data) for _, data in members]
        if self._tar.offset - offset != member_starts(sizes)[-1]:
            raise ValueError(f"{key}: the tar is not laid out as its readers expect")
        self.samples.append(Sample(key, offset, sizes))


@contextmanager
def write_tar(path: Path) -> Iterator[ClipWriter]:
    """A new tar of clips at `path`: whole when the block has ended, else not there at all.

    Raises:
        CannotWrite: no space, no permission.

    """
    with _whole_file(path) as file:
        tar = tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - closed below
        yield ClipWriter(tar, path)
        with _writing(path):
            tar.close()  # writes the end of the archive: only when all went well


def write_file(path: Path, data: bytes) -> None:
    """A file, whole or not at all.

    Raises:
        CannotWrite: no space, no permission.

    """
    with _whole_file(path) as file, _writing(path):
        file.write(data)


def shard_of(path: Path, samples: list[Sample]) -> Shard:
    """The index's entry of a written tar."""
    return Shard(path.name, path.stat().st_size, sha256_of(path), samples)


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file under a temporary name, which becomes `path` when the block has ended without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # a rename is atomic within a file system
    try:
        with _writing(path):
            file = temporary.open("wb")
        try:
            yield file
            with _writing(path):
                file.flush()
                os.fsync(file.fileno())
        finally:
            with _writing(path):
                file.close()  # after an error, too, it may have something left to write
        with _writing(path):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Errors of the disk as one of the user's. Only around what writes: reading has errors of its own."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(
            f"{path} cannot be written: {error.strerror or error}; make room or choose another folder, and "
            "give the same command again: what is finished is kept"
        ) from error
