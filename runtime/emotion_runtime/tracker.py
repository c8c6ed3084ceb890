"""Follow persons over time: ByteTrack, with ids and a lifetime of lost tracks of our own.

Source: Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emotion_runtime.types import Detections, Track

# ByteTrack counts the lifetime of lost tracks in frames of 1/30 s, whatever timestamps it is given.
_TICKS_PER_SECOND = 30
_MIN_STEP = 1e-3  # seconds; keeps frames with equal timestamps in order
# Heads are small and move by half their width between the frames of a slow detector.
_MIN_IOU = 0.1
_ROW = "row"  # ByteTrack reorders detections; their row numbers lead back to everything else about them


@dataclass(frozen=True, slots=True)
class _KnownTrack:
    """A track with an id of ours.

    Attributes:
        track: The track at its last detection.
        inner_id: ByteTrack's id.
        last_seen: Time of the latest detection, in seconds.
    """

    track: Track
    inner_id: int
    last_seen: float


class Tracker:
    """Gives every person of one source a lasting id. Use one object per source.

    Args:
        max_lost_seconds: A track unseen for longer is dropped; a person who reappears later gets a new id.
        confirm_frames: Consecutive detections needed to confirm a track, so that a false detection in a
            single frame never becomes a person.
        confirm_score: Minimum score of detections that start a track. Weaker ones only continue a track.
    """

    def __init__(
        self, *, max_lost_seconds: float = 1.0, confirm_frames: int = 3, confirm_score: float = 0.5
    ) -> None:
        # Imported late: supervision and its SciPy take half a second, which `--help` need not wait for.
        from trackers import ByteTrackTracker  # noqa: PLC0415

        self._max_lost_seconds = max_lost_seconds
        self._inner = ByteTrackTracker(
            lost_track_buffer=math.ceil(max_lost_seconds * _TICKS_PER_SECOND),
            frame_rate=_TICKS_PER_SECOND,
            track_activation_threshold=confirm_score,
            high_conf_det_threshold=confirm_score,
            minimum_consecutive_frames=confirm_frames,
            minimum_iou_threshold=_MIN_IOU,
        )
        self._known: dict[int, _KnownTrack] = {}  # by our id
        self._next_id = 1
        self._given_t = -math.inf  # time of the latest frame, as given
        self._t = -math.inf  # `_given_t`, forced to be strictly increasing

    def update(self, detections: Detections, t: float) -> list[Track]:
        """Return the visible tracks after this frame, and the lost ones that are not dropped yet, by id.

        Args:
            detections: The persons found in the frame.
            t: Seconds of media time, not decreasing; steps may be of any length.

        Returns:
            Tracks with `seen=False` for lost persons, who keep their last box.

        Raises:
            ValueError: `t` is earlier than that of the previous frame.
        """
        if t < self._given_t:
            raise ValueError(f"t {t} is earlier than that of the previous frame ({self._given_t})")
        self._given_t = t
        self._t = max(t, self._t + _MIN_STEP)
        self._drop_lost()
        tracked = self._inner.update(_as_supervision(detections), timestamp=self._t)
        self._update_known(tracked, detections)
        return [
            known.track if known.last_seen == self._t else replace(known.track, seen=False)
            for _, known in sorted(self._known.items())
        ]

    def _drop_lost(self) -> None:
        """Drop tracks that have been lost for too long."""
        self._known = {
            own_id: known
            for own_id, known in self._known.items()
            if self._t - known.last_seen <= self._max_lost_seconds
        }

    def _update_known(self, tracked: Any, detections: Detections) -> None:
        """Take over ByteTrack's confirmed tracks. New ones are numbered from left to right."""
        own_ids = {known.inner_id: own_id for own_id, known in self._known.items()}
        confirmed = np.flatnonzero(tracked.tracker_id >= 0)
        for row in confirmed[np.argsort(tracked.xyxy[confirmed, 0], kind="stable")]:
            inner_id = int(tracked.tracker_id[row])
            if inner_id not in own_ids:
                own_ids[inner_id] = self._next_id
                self._next_id += 1
            track = detections.track(int(tracked.data[_ROW][row]), own_ids[inner_id])
            self._known[track.id] = _KnownTrack(track, inner_id, self._t)


def _as_supervision(detections: Detections) -> Any:
    from supervision import Detections as SupervisionDetections  # noqa: PLC0415 - see Tracker

    rows: dict[str, Any] = {_ROW: np.arange(len(detections.boxes))}
    return SupervisionDetections(xyxy=detections.boxes, confidence=detections.scores, data=rows)
