"""Data types of the runtime: frames, detections, tracks, persons, emotion events."""

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
    """One frame of one source.

    Attributes:
        image: (H, W, 3) uint8 BGR, as OpenCV stores it.
        index: Number of the frame in its source, from 0.
        t: Seconds of media time.
        source: Name of the source.
        captured: `time.monotonic()` at capture for a live source; None for a file that is read frame by
            frame.
        dropped: Frames of the source that were dropped so far because they were too old.
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

    Attributes:
        boxes: (N, 4) float32, x1, y1, x2, y2 in frame pixels.
        scores: (N,) float32 in [0, 1].
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4 or self.scores.shape != self.boxes.shape[:1]:
            raise ValueError(f"boxes {self.boxes.shape}, scores {self.scores.shape}: expected (N, 4), (N,)")

    @classmethod
    def empty(cls) -> "Detections":
        """Return no detections."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True, slots=True)
class Track:
    """A detection with an identity.

    Attributes:
        id: Counts up from 1; a tracker never uses an id twice.
        box: (x1, y1, x2, y2) in frame pixels.
        score: Score of the latest detection, in [0, 1].
        seen: Whether the person was detected in this frame. False: lost, but not dropped yet.
    """

    id: int
    box: Box
    score: float
    seen: bool = True


class Person(msgspec.Struct, frozen=True):
    """One person in one frame; a part of `EmotionEvent`.

    Attributes:
        id: The track's id, unique within the source.
        box: (x1, y1, x2, y2) in frame pixels.
        score: Score of the detection, in [0, 1].
        state: "warming" until the first full clip, then "steady"; "lost" while the person is not visible.
        emotions: Probability by label, smoothed over time. Empty until the first encoding.
        raw: The same from the latest clip alone. Both sum to 1 if the head is a softmax.
        top: The shown label after hysteresis. None before the first encoding, and while the probability is
            below the head's abstain threshold.
        valence: Smoothed over time, in the units that the bundle's affect head was fitted on. None until the
            first encoding, and if the bundle has no such head. The same holds for arousal and dominance.
        arousal: See `valence`.
        dominance: See `valence`.
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
    """The result for one frame; one line of JSONL.

    Attributes:
        schema: Version of the format.
        source: Name of the source.
        frame: Number of the frame in its source, from 0.
        t: Seconds of media time.
        persons: The persons in view, and those lost a moment ago.
        latency_ms: Milliseconds from capture to this event; 0 for a file that is read frame by frame.
        dropped: Frames dropped since the source was opened.
    """

    schema: int
    source: str
    frame: int
    t: float
    persons: list[Person]
    latency_ms: float
    dropped: int
