"""From the work folder to shards: clips of all videos in one fixed, mixed order, and the index."""

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
from emotion_train.clips.writer import RUN_AGAIN, shard_of, write_tar

VideoTars = list[tuple[Path, Shard]]  # tars of a video each, and what is in them


def pack(out: Path, tars: VideoTars, spec: dict[str, Any], *, seed: int, clips_per_shard: int) -> Index:
    """Write shards and, last, the index; old ones go first. What is finished already stays as it is.

    Clips are ordered by a hash of their keys: neighbours are of different videos, and the order does not
    depend on how the work was distributed.

    Raises:
        WriteError: the disk is full.

    """
    content = hashlib.sha256("".join(sorted(shard.sha256 for _, shard in tars)).encode()).hexdigest()
    spec = {**spec, "seed": seed, "clips_per_shard": clips_per_shard, "content": content}
    finished = _finished(out, spec)
    if finished is not None:
        return finished
    (out / INDEX_NAME).unlink(missing_ok=True)  # from here until the end this is no shard set
    for old in out.glob("shard-*.tar"):
        old.unlink()
    remove_leftovers(out)
    clips = [(path, sample) for path, shard in tars for sample in shard.samples]
    clips.sort(key=lambda clip: (hashlib.sha256(f"{seed} {clip[1].key}".encode()).digest(), clip[1].key))
    shards = []
    with tqdm(total=len(clips), desc="shards", unit="clip") as bar:
        for number, start in enumerate(range(0, len(clips), clips_per_shard)):
            path = out / f"shard-{number:06d}.tar"
            with write_tar(path) as writer:
                for clip in clips[start : start + clips_per_shard]:
                    writer.add(clip[1].key, *read_clip(*clip))
                    bar.update()
            shards.append(shard_of(path, writer.samples))
    frames = sum(len(sample.sizes) - 1 for _, sample in clips)
    index = Index(SCHEMA_VERSION, spec, len(clips), frames, shards)
    write_atomically(out / INDEX_NAME, msgspec.json.encode(index), fix=RUN_AGAIN)
    return index


def read_clip(tar: Path, sample: ClipLocation) -> tuple[ClipRecord, list[bytes]]:
    """A clip of a tar in the work folder.

    Raises:
        EmotionError: the tar is not the one that its result speaks of.

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
            f"{tar} is damaged at {sample.key}: delete it and give the same command again"
        ) from error


def _finished(out: Path, spec: dict[str, Any]) -> Index | None:
    """The index, when it and its shards are what would be written."""
    try:
        index = msgspec.json.decode((out / INDEX_NAME).read_bytes(), type=Index)
        whole = all((out / shard.name).stat().st_size == shard.bytes for shard in index.shards)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, msgspec.ValidationError):  # of another version
        return None
    # Through JSON, as the index went: it has no tuples and no structs.
    same = index.spec == msgspec.json.decode(msgspec.json.encode(spec)) and index.schema == SCHEMA_VERSION
    return index if whole and same else None
