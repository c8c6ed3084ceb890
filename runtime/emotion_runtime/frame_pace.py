"""How often people are detected and encoded in the frames of a source: at a pace for live sources alone."""

import math
from collections.abc import Mapping, Sequence

from emotion_runtime.errors import EmotionError
from emotion_runtime.names import DetectEvery
from emotion_runtime.pace import LiveView, Pace, StepCost
from emotion_runtime.source_state import SourceState
from emotion_runtime.types import Frame


class FramePace:
    """The times between two detections and between two encodings that hold for a frame.

    They are fixed for files, whose results must not depend on the machine.

    Args:
        detect_every: Mean time between two detections in seconds; "auto" is every frame of a file.
        encode_every: Time between two encodings of a person in seconds, if there is time for it.

    Raises:
        EmotionError: `detect_every` is not a time.
    """

    def __init__(self, detect_every: DetectEvery, encode_every: float) -> None:
        if detect_every != "auto" and not 0 <= detect_every < math.inf:
            raise EmotionError(
                f"detect_every {detect_every}: expected `auto` or seconds, 0 (every frame) or more"
            )
        self._detect_every = detect_every
        self._encode_every = encode_every
        self._pace = Pace(encode_every)

    @property
    def detections_asked(self) -> bool:
        """Whether the user asked for a time between two detections."""
        return self._detect_every != "auto"

    def detect_every(self, frame: Frame) -> float:
        """Return the time between two detections in seconds; 0: every frame."""
        if self._detect_every == "auto":
            return 0.0 if frame.captured is None else self._pace.detect_every
        return self._detect_every

    def encode_every(self, frame: Frame) -> float:
        """Return the usual time between two encodings of a person, in seconds."""
        return self._encode_every if frame.captured is None else self._pace.encode_every

    def live_encode_every(self, frame: Frame) -> float:
        """Return the time between two encodings for which a live source has time, in seconds; 0: a file."""
        return 0.0 if frame.captured is None else self._pace.encode_every

    def update(self, step: StepCost, frames: Sequence[Frame], sources: Mapping[str, SourceState]) -> None:
        """Choose the pace of live sources anew after a step.

        Args:
            step: What the step did.
            frames: Its frames; without a live one, nothing changes.
            sources: The source of each frame, in order.
        """
        views = [
            LiveView(name, source.intervals.usual, sum(track.seen for track in source.tracks))
            for frame, (name, source) in zip(frames, sources.items(), strict=True)
            if frame.captured is not None
        ]
        if views:
            self._pace.update(step, views)
