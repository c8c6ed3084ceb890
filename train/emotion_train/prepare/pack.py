"""Write the clips of the work folder to shards, in one fixed shuffled order, and the index."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
from tqdm import tqdm

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import remove_leftovers, write_atomically
from emotion_train.clips.format import (
    BLOCK,
    INDEX_NAME,
    SCHEMA_VERSION,
    ClipLocation,
    ClipRecord,
    Index,
    Shard,
    member_starts,
)
from emotion_train.clips.index import BINARY_NAME, sha256_of_bytes, write_binary
from emotion_train.clips.writer import RUN_AGAIN, shard_of, write_tar

VideoTars = list[tuple[Path, Shard]]  # the tar of each video, and its entries


def pack(out: Path, tars: VideoTars, spec: dict[str, Any], *, seed: int, clips_per_shard: int) -> Index:
    """Write shards and, last, the index. Old shards are deleted first; a finished set is left unchanged.

    Clips are ordered by a hash of their keys: neighbours are of different videos, and the order does not
    depend on how the work was distributed.

    Raises:
        WriteError: A file cannot be written.
    """
    content = hashlib.sha256("".join(sorted(shard.sha256 for _, shard in tars)).encode()).hexdigest()
    spec = {**spec, "seed": seed, "clips_per_shard": clips_per_shard, "content": content}
    finished = _finished(out, spec)
    if finished is not None:
        return finished
    for name in (INDEX_NAME, BINARY_NAME):
        (out / name).unlink(missing_ok=True)  # until the end of this function there is no valid shard set
    for old in out.glob("shard-*.tar"):
        old.unlink()
    remove_leftovers(out)
    clips = [(path, sample) for path, shard in tars for sample in shard.samples]
    clips.sort(key=lambda clip: (hashlib.sha256(f"{seed} {clip[1].key}".encode()).digest(), clip[1].key))
    shards = []
    with tqdm(total=len(clips), desc="shards", unit="clip") as bar:
        for shard_index, start in enumerate(range(0, len(clips), clips_per_shard)):
            path = out / f"shard-{shard_index:06d}.tar"
            with write_tar(path) as writer:
                for clip in clips[start : start + clips_per_shard]:
                    writer.add(clip[1].key, *read_clip(*clip))
                    bar.update()
            shards.append(shard_of(path, writer.samples))
    frames = sum(len(sample.sizes) - 1 for _, sample in clips)
    index = Index(SCHEMA_VERSION, spec, len(clips), frames, shards)
    text = msgspec.json.encode(index)
    write_binary(out / BINARY_NAME, sha256_of_bytes(text), spec, shards, fix=RUN_AGAIN)
    write_atomically(out / INDEX_NAME, text, fix=RUN_AGAIN)
    return index


def read_clip(tar: Path, sample: ClipLocation) -> tuple[ClipRecord, list[bytes]]:
    """Read a clip from a tar in the work folder.

    Raises:
        EmotionError: The tar does not match its result.
    """
    starts = member_starts(sample.sizes).tolist()
    with tar.open("rb") as file:
        file.seek(sample.offset)
        data = file.read(starts[-1])
    members = [
        data[start + BLOCK : start + BLOCK + size] for start, size in zip(starts, sample.sizes, strict=False)
    ]
    try:
        return msgspec.json.decode(members[0], type=ClipRecord), members[1:]
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise EmotionError(
            f"{tar} is corrupt at {sample.key}: delete it and run the same command again"
        ) from error


def _finished(out: Path, spec: dict[str, Any]) -> Index | None:
    """Return the existing index if it and its shards are what would be written, else None."""
    try:
        index = msgspec.json.decode((out / INDEX_NAME).read_bytes(), type=Index)
        complete = all((out / shard.name).stat().st_size == shard.bytes for shard in index.shards)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, msgspec.ValidationError):  # written by another version
        return None
    # Through JSON, as the index was: it has no tuples and no structs.
    same = index.spec == msgspec.json.decode(msgspec.json.encode(spec)) and index.schema == SCHEMA_VERSION
    return index if complete and same else None
