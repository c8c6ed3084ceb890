"""Identities over time: ByteTrack, with ids and forgetting of our own.

Source: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emotion_runtime.types import Detections, Track

# ByteTrack counts its patience in frames of 1/30 s whatever the times it is given.
_TICKS_PER_SECOND = 30
_LEAST_STEP = 1e-3  # seconds; two frames of one moment still are one after the other
# Heads are small and move by half their width between the frames of a slow detector.
_LEAST_OVERLAP = 0.1


@dataclass(frozen=True, slots=True)
class _Known:
    """A person we gave an id. inner: ByteTrack's id. last_seen: seconds."""

    track: Track
    inner: int
    last_seen: float


class Tracker:
    """Gives every person of one source an id that lasts. One object per source.

    max_lost_seconds: a person unseen for longer is forgotten; who comes later gets a new id.
    confirm_frames: a person exists after being found in so many frames running, so that a flicker of the
    detector never becomes one. confirm_score: least score of the detections that start a person; weaker
    ones only carry on a person that exists.
    """

    def __init__(
        self, *, max_lost_seconds: float = 1.0, confirm_frames: int = 3, confirm_score: float = 0.5
    ) -> None:
        # Imported here: supervision and SciPy behind it cost half a second, which `--help` need not pay.
        from trackers import ByteTrackTracker  # noqa: PLC0415

        self._max_lost_seconds = max_lost_seconds
        self._inner = ByteTrackTracker(
            lost_track_buffer=math.ceil(max_lost_seconds * _TICKS_PER_SECOND),
            frame_rate=_TICKS_PER_SECOND,
            track_activation_threshold=confirm_score,
            high_conf_det_threshold=confirm_score,
            minimum_consecutive_frames=confirm_frames,
            minimum_iou_threshold=_LEAST_OVERLAP,
        )
        self._known: dict[int, _Known] = {}  # by our id
        self._next_id = 1
        self._given = -math.inf  # the last time as given
        self._t = -math.inf  # the same, made to rise

    def update(self, detections: Detections, t: float) -> list[Track]:
        """Tracks after this frame, by id: those seen, and those lost but not yet forgotten (seen=False).

        t: seconds of media time, not decreasing; steps may be of any length. A lost track keeps its last
        box.
        """
        if t < self._given:
            raise ValueError(f"t {t} is earlier than that of the frame before ({self._given})")
        self._given = t
        self._t = max(t, self._t + _LEAST_STEP)
        self._forget()
        found = self._inner.update(_as_supervision(detections), timestamp=self._t)
        self._remember(found)
        return [
            known.track if known.last_seen == self._t else replace(known.track, seen=False)
            for _, known in sorted(self._known.items())
        ]

    def _forget(self) -> None:
        """Drop the persons unseen for too long."""
        self._known = {
            own: known
            for own, known in self._known.items()
            if self._t - known.last_seen <= self._max_lost_seconds
        }

    def _remember(self, found: Any) -> None:
        """Take over ByteTrack's confirmed tracks. New ones are numbered from left to right."""
        own_id = {known.inner: own for own, known in self._known.items()}
        confirmed = np.flatnonzero(found.tracker_id >= 0)
        for row in confirmed[np.argsort(found.xyxy[confirmed, 0], kind="stable")]:
            inner = int(found.tracker_id[row])
            if inner not in own_id:
                own_id[inner] = self._next_id
                self._next_id += 1
            x1, y1, x2, y2 = (float(v) for v in found.xyxy[row])
            track = Track(own_id[inner], (x1, y1, x2, y2), float(found.confidence[row]))
            self._known[track.id] = _Known(track, inner, self._t)


def _as_supervision(detections: Detections) -> Any:
    from supervision import Detections as SupervisionDetections  # noqa: PLC0415 - see Tracker

    return SupervisionDetections(xyxy=detections.boxes, confidence=detections.scores)
