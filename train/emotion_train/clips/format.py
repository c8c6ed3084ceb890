"""The format of a shard set: the record of a clip, the index, and the layout of a tar file."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

SCHEMA_VERSION = 1
INDEX_NAME = "index.json"
BLOCK = 512  # bytes; a member of a tar file is one header block, then its data padded to whole blocks
END_BLOCKS = 2  # a tar file ends with at least this many blocks of zeros
JPEG_START = b"\xff\xd8"

PERSON_SCORE = 0.5  # boxes whose score is not above this are stored but not used as people in training

ScoredBox = tuple[float, float, float, float, float]  # x1, y1, x2, y2, score


class ClipRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A clip without its images.

    Attributes:
        video: Name of its source.
        caption: The sentence spoken.
        start: Start of the clip in the video, seconds.
        end: End of the clip in the video, seconds.
        fps: Stored frames per second.
        width: Width of the stored frames, pixels.
        height: Height of the stored frames, pixels.
        boxes: For each stored frame the people in it, in pixels of the stored frame.
        sentiment: 7 logits in the order of `emotion_train.language.labels.EKMAN`.
        neutral: Probability that the sentence is neutral.
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
    """The position of a clip in its shard.

    Attributes:
        key: Name of the clip.
        offset: Where the header of its first member starts, bytes.
        sizes: Sizes of its members without headers, bytes: the record, then each frame.
    """

    key: str
    offset: int
    sizes: list[int]


class Shard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tar file of a shard set.

    Attributes:
        name: File name.
        bytes: Size of the file.
        sha256: Hash of the file.
        samples: Its clips.
    """

    name: str
    bytes: int
    sha256: str
    samples: list[ClipLocation]


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `index.json`.

    Attributes:
        schema: Version of the format.
        spec: How the clips were made.
        clips: Total number of clips.
        frames: Total number of frames.
        shards: The tar files.
    """

    schema: int
    spec: dict[str, Any]
    clips: int
    frames: int
    shards: list[Shard]


def member_starts(sizes: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each member's header starts, relative to the first, and where the last member ends.

    Args:
        sizes: (M,) sizes of the members without headers, bytes.

    Returns:
        (M + 1,) int64.
    """
    spans = BLOCK + -(-np.asarray(sizes, np.int64) // BLOCK) * BLOCK
    return np.concatenate([[0], np.cumsum(spans)])
