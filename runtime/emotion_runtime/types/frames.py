"""What is seen in images: frames, detections and tracks."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels
Landmarks = tuple[tuple[float, float], ...]  # right eye, left eye, nose, mouth corners; x, y in pixels


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
        still: The frame is a photo: it has no frame before or after it.
        time: Wall-clock time of the capture, in UTC. None: not known, as for a file.
    """

    image: NDArray[np.uint8]
    index: int
    t: float
    source: str
    captured: float | None = None
    dropped: int = 0
    still: bool = False
    time: datetime | None = None

    def __repr__(self) -> str:
        """Return a short text without the pixels."""
        height, width = self.image.shape[:2]
        return f"Frame({self.source!r}, index={self.index}, t={self.t:g}, {width} x {height})"


@dataclass(frozen=True, slots=True)
class Detections:
    """Persons found in one frame.

    Attributes:
        boxes: (N, 4) float32, x1, y1, x2, y2 in frame pixels.
        scores: (N,) float32 in [0, 1].
        landmarks: (N, 5, 2) float32, x, y in frame pixels, in the order of `Landmarks`. None: the detector
            finds none.
        heads: (N, 4) float32, boxes of the heads in frame pixels, which may reach beyond the frame. None: the
            detector finds none.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    landmarks: NDArray[np.float32] | None = None
    heads: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        for name, given in (("boxes", self.boxes), ("scores", self.scores)):
            if not isinstance(given, np.ndarray) or given.dtype.kind not in "fiu":
                raise ValueError(f"{name} {given!r:.60}: expected numbers, as np.asarray(..., np.float32)")
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4 or self.scores.shape != self.boxes.shape[:1]:
            raise ValueError(f"boxes {self.boxes.shape}, scores {self.scores.shape}: expected (N, 4), (N,)")
        for name, values, shape in (("landmarks", self.landmarks, (5, 2)), ("heads", self.heads, (4,))):
            if values is not None and values.shape != (len(self.boxes), *shape):
                raise ValueError(f"{name} {values.shape}: expected {(len(self.boxes), *shape)}")

    def take(self, rows: NDArray[Any]) -> "Detections":
        """Return the chosen detections.

        Args:
            rows: Their row numbers, or one boolean per detection.
        """
        return Detections(
            self.boxes[rows],
            self.scores[rows],
            None if self.landmarks is None else self.landmarks[rows],
            None if self.heads is None else self.heads[rows],
        )

    def track(self, row: int, track_id: int) -> "Track":
        """Return a detection with an identity. Landmarks and a head that are not finite were not found."""
        marks = None if self.landmarks is None else self.landmarks[row]
        head = None if self.heads is None else self.heads[row]
        return Track(
            track_id,
            _as_box(self.boxes[row]),
            float(self.scores[row]),
            landmarks=None
            if marks is None or not np.isfinite(marks).all()
            else tuple((x, y) for x, y in marks.tolist()),
            head=None if head is None or not np.isfinite(head).all() else _as_box(head),
        )

    @classmethod
    def empty(cls) -> "Detections":
        """Return no detections."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def _as_box(values: NDArray[np.float32]) -> Box:
    x1, y1, x2, y2 = values.tolist()
    return x1, y1, x2, y2


@dataclass(frozen=True, slots=True)
class Track:
    """A detection with an identity.

    Attributes:
        id: Counts up from 1; a tracker never uses an id twice.
        box: (x1, y1, x2, y2) in frame pixels.
        score: Score of the latest detection, in [0, 1].
        seen: Whether the person was detected in this frame. False: lost, but not dropped yet.
        landmarks: Landmarks of the latest detection. None: the detector finds none.
        head: Box of the head at the latest detection, which may reach beyond the frame. None: the detector
            finds none.
        confirmed: The person was found in several frames; a false detection is mostly in a single one.
    """

    id: int
    box: Box
    score: float
    seen: bool = True
    landmarks: Landmarks | None = None
    head: Box | None = None
    confirmed: bool = True
