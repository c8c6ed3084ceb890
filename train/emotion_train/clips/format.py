"""What stands in a shard set: the record of a clip, the index, and how a tar file is laid out."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

SCHEMA_VERSION = 1
INDEX_NAME = "index.json"
BLOCK = 512  # of a tar file: every member has one block of header, and its data is filled up to whole blocks
END_BLOCKS = 2  # of zeros, at least, end a tar file
JPEG_START = b"\xff\xd8"

PERSON_SCORE = 0.5  # a box of this score is somebody; weaker ones are kept for who wants them

ScoredBox = tuple[float, float, float, float, float]


class ClipRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of a clip besides its pictures.

    video: name of its source. caption: the sentence spoken. start, end: seconds of the video. fps: stored
    frames a second. width, height: of the stored frames, pixels. boxes: for each stored frame, the persons in
    it as (x1, y1, x2, y2, score) in pixels of the stored frame. sentiment: 7 logits in the order of
    `emotion_train.language.labels.EKMAN`. neutral: probability that the sentence is neutral.
    """

    video: str
    caption: str
    start: float
    end: float
    fps: float
    width: int
    height: int
    boxes: list[list[ScoredBox]]
    sentiment: list[float]
    neutral: float


class ClipLocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a clip lies in its shard.

    offset: of the header of its first member, bytes. sizes: bytes of data of its members: the record, then
    each frame.
    """

    key: str
    offset: int
    sizes: list[int]


class Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tar file. bytes: its size."""

    name: str
    bytes: int
    sha256: str
    samples: list[ClipLocation]


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`index.json`. spec: how the clips were made. clips, frames: how many there are in all."""

    schema: int
    spec: dict[str, Any]
    clips: int
    frames: int
    shards: list[Shard]


def member_starts(sizes: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """(M,) sizes of data -> (M + 1,) where each member's header begins, from the first, and the end."""
    spans = BLOCK + -(-np.asarray(sizes, np.int64) // BLOCK) * BLOCK
    return np.concatenate([[0], np.cumsum(spans)])
