"""The record and the frames of a clip, from the bytes that a shard has at their positions."""

from typing import NamedTuple

import msgspec

from emotion_runtime.errors import EmotionError
from emotion_train.clips.format import BLOCK, JPEG_START, ClipRecord
from emotion_train.clips.index import ClipEntry
from emotion_train.clips.read_errors import PREPARE_AGAIN


class ClipPart(NamedTuple):
    """The record of a clip, and some of its frames as JPEG files."""

    record: ClipRecord
    frames: list[bytes]


def parse_part(name: str, entry: ClipEntry, parts: list[bytes]) -> ClipPart:
    """Decode the record, which is the first part, and check the frames, which are the others.

    Args:
        name: Address of the shard, for messages.
        entry: The clip.
        parts: The member of the record, with its header, and JPEG files.

    Raises:
        EmotionError: The shard is not the one that the index describes.
    """
    record = parse_record(name, entry, parts[0])
    return ClipPart(record, [checked_jpeg(name, entry, data) for data in parts[1:]])


def parse_record(name: str, entry: ClipEntry, member: bytes) -> ClipRecord:
    """Decode the record from its member, which includes the header. See `parse_part`."""
    key, frames = entry.key, len(entry.sizes) - 1
    if member[:100].rstrip(b"\0") != f"{key}.json".encode():
        raise EmotionError(f"{name}: {key}.json is not at the position that the index gives; {PREPARE_AGAIN}")
    try:
        record = msgspec.json.decode(member[BLOCK:], type=ClipRecord)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise EmotionError(f"{name}: the record of {key} is invalid: {error}; {PREPARE_AGAIN}") from error
    if len(record.boxes) != frames:
        raise EmotionError(
            f"{name}: the record of {key} has boxes for {len(record.boxes)} frames, but the clip has "
            f"{frames}; {PREPARE_AGAIN}"
        )
    return record


def checked_jpeg(name: str, entry: ClipEntry, data: bytes) -> bytes:
    """Return a frame, if it begins like a JPEG file. See `parse_part`."""
    if not data.startswith(JPEG_START):
        raise EmotionError(f"{name}: a frame of {entry.key} is not a JPEG file; {PREPARE_AGAIN}")
    return data
