"""Identities over time."""

from emotion_runtime.types import Detections, Track


class Tracker:
    """Gives every person of one source an id that lasts. One object per source.

    max_lost_seconds: a person unseen for longer is forgotten; who comes later gets a new id.
    """

    def __init__(self, *, max_lost_seconds: float = 1.0) -> None:
        self.max_lost_seconds = max_lost_seconds

    def update(self, detections: Detections, t: float) -> list[Track]:
        """Tracks after this frame, by id: those seen, and those lost but not yet forgotten (seen=False).

        t: seconds of media time, not decreasing.
        """
        raise NotImplementedError
