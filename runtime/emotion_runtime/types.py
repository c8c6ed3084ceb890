"""What flows through the runtime: frames, detections, tracked persons, emotion events."""

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

SCHEMA_VERSION = 1

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels

State = Literal["warming", "steady", "lost"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of one source.

    image: (H, W, 3) uint8 BGR, as OpenCV has it. index: number of the frame in its source, from 0.
    t: seconds of media time. captured: `time.monotonic()` at capture for a live source, None for a file
    read frame by frame. dropped: frames of the source dropped so far because they were too old.
    """

    image: NDArray[np.uint8]
    index: int
    t: float
    source: str
    captured: float | None = None
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Detections:
    """Persons found in one frame.

    boxes: (N, 4) float32, x1, y1, x2, y2 in frame pixels. scores: (N,) float32 in [0, 1].
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4 or self.scores.shape != self.boxes.shape[:1]:
            raise ValueError(f"boxes {self.boxes.shape}, scores {self.scores.shape}: expected (N, 4), (N,)")

    @classmethod
    def empty(cls) -> "Detections":
        """No one."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True)
class Track:
    """A detection with an identity. Ids start at 1, count up and are never given twice by one tracker.

    box: (x1, y1, x2, y2) in frame pixels. seen: detected in this frame (False: lost, not yet forgotten).
    """

    id: int
    box: Box
    score: float
    seen: bool = True


class Person(msgspec.Struct, frozen=True):
    """What is known of one person in one frame; the part of `EmotionEvent` that belongs to a person.

    emotions: probability by label, smoothed over time; raw: the same from this frame's clip alone; both sum
    to 1 over the labels of a softmax head. Both are empty until the person was encoded once.
    top: the label that hysteresis holds, None while unknown or under the head's abstain threshold.
    valence, arousal, dominance: smoothed over time, in the units that the bundle's affect head was fitted on;
    None until the person was encoded once, and where the bundle has no such head.
    """

    id: int
    box: Box
    score: float
    state: State
    emotions: dict[str, float]
    raw: dict[str, float]
    top: str | None
    valence: float | None = None
    arousal: float | None = None
    dominance: float | None = None


class EmotionEvent(msgspec.Struct, frozen=True):
    """One processed frame; one line of JSONL.

    t: seconds of media time. latency_ms: from capture to this event; 0 for a file read frame by frame, which
    has no moment of capture. dropped: frames dropped since the source was opened.
    """

    schema: int
    source: str
    frame: int
    t: float
    persons: list[Person]
    latency_ms: float
    dropped: int
