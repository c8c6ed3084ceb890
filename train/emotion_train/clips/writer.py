"""Write the tar files that `emotion_train.clips.reader` reads. The same clips give the same bytes."""

import io
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from emotion_runtime.bundle import sha256_of
from emotion_runtime.files import atomic_file
from emotion_train.clips.format import ClipLocation, ClipRecord, Shard, member_starts

NAME_LIMIT = 100  # bytes; a member with a longer name needs a second header
RUN_AGAIN = "free disk space or choose another folder, then run the same command again: finished work is kept"


class ClipWriter:
    """Appends clips to an open tar file. Create it with `write_tar`.

    Attributes:
        samples: Positions of the clips written so far.
    """

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.samples: list[ClipLocation] = []

    def add(self, key: str, record: ClipRecord, frames: Sequence[bytes]) -> None:
        """Append a clip.

        Args:
            key: Name of the clip: letters, digits, `-` and `_`.
            record: The clip without its images.
            frames: JPEG files, one for each entry of `record.boxes`.

        Raises:
            OSError: The disk is full; `write_tar` turns it into a `WriteError`.
        """
        if len(frames) != len(record.boxes) or not frames:
            raise ValueError(f"{key}: {len(frames)} frames, and boxes of {len(record.boxes)} frames")
        offset = self._tar.offset
        members = [("json", msgspec.json.encode(record))]
        members += [(f"{index:03d}.jpg", frame) for index, frame in enumerate(frames)]
        for suffix, data in members:
            header = tarfile.TarInfo(
                f"{key}.{suffix}"
            )  # its time and owner are 0, so that equal clips give equal bytes
            if len(header.name.encode()) > NAME_LIMIT:
                raise ValueError(f"member name {header.name!r} is longer than {NAME_LIMIT} bytes")
            header.size = len(data)
            self._tar.addfile(header, io.BytesIO(data))
        sizes = [len(data) for _, data in members]
        if self._tar.offset - offset != member_starts(sizes)[-1]:
            raise ValueError(f"{key}: the layout of the tar file is not the one that its readers expect")
        self.samples.append(ClipLocation(key, offset, sizes))


@contextmanager
def write_tar(path: Path) -> Iterator[ClipWriter]:
    """Write a tar file of clips atomically: it exists only if the block ends without an error.

    Raises:
        WriteError: The file cannot be written.
    """
    with atomic_file(path, fix=RUN_AGAIN) as file:
        tar = tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - closed below
        yield ClipWriter(tar)
        tar.close()  # writes the end of the archive, so only after the last clip


def shard_of(path: Path, samples: list[ClipLocation]) -> Shard:
    """Return the index entry of a written tar file."""
    return Shard(path.name, path.stat().st_size, sha256_of(path), samples)
