"""The state of one source: who is in view, and since when."""

import numpy as np

from emotion_runtime.intervals import Intervals
from emotion_runtime.person import PersonOptions, PersonState
from emotion_runtime.ring import EARLY_TOLERANCE
from emotion_runtime.scheduler import capacity, most_urgent
from emotion_runtime.tracker import START_SCORE, Tracker
from emotion_runtime.types import Detections, Frame, Track

_SAME_ASPECT = 0.02  # largest relative difference of the scales of width and height


class SourceState:
    """The people of one source.

    Args:
        options: How the values of a person are computed and shown.
        still: The source is a single photo: every detection that could start a track is a person.

    Attributes:
        tracks: The tracks at the latest detection, by id.
        persons: The state of each of them, by id.
        intervals: Times between the frames.
    """

    def __init__(self, options: PersonOptions, *, still: bool = False) -> None:
        self.tracks: list[Track] = []
        self.persons: dict[int, PersonState] = {}
        self.intervals = Intervals()
        self._options = options
        self._still = still
        self._tracker = Tracker()
        self._size: tuple[int, int] | None = None
        self._detected_at = -np.inf

    def begin(self, frame: Frame, detect_every: float) -> bool:
        """Take note of a new frame, and return whether persons should be detected in it.

        After a change of the frame size, boxes are scaled; everybody is dropped if the aspect ratio changed.
        """
        self.intervals.add(frame.t)
        height, width = frame.image.shape[:2]
        before, self._size = self._size, (height, width)
        if before is not None and before != self._size:
            self._resize(height / before[0], width / before[1])
        if 0 <= frame.t - self._detected_at < detect_every * (1 - EARLY_TOLERANCE):
            return False
        self._detected_at = frame.t
        return True

    def follow(self, detections: Detections, t: float) -> None:
        """Take over the persons found in the frame of time t; their state is created and dropped here."""
        self.tracks = _photographed(detections) if self._still else self._tracker.update(detections, t)
        known = self.persons
        self.persons = {
            track.id: known.get(track.id) or PersonState(self._options, still=self._still)
            for track in self.tracks
        }

    def due(self, t: float) -> list[Track]:
        """Return the tracks to encode in the frame of time t: newcomers first, then who waits longest."""
        seen = [track for track in self.tracks if track.seen]
        waiting = []
        for track in seen:
            ring = self.persons[track.id].ring
            if ring.due(t):
                waiting.append(((not ring.warming, ring.latest, track.id), track))
        every = self._options.clips.every
        return most_urgent(waiting, capacity(len(seen), self.intervals.usual, every))

    def forget_persons(self) -> None:
        """Drop everybody, so that the next frame's people are all new."""
        self._tracker.forget_all()
        self.tracks, self.persons = [], {}
        self._detected_at = -np.inf

    def _resize(self, down: float, across: float) -> None:
        if abs(across / down - 1) > _SAME_ASPECT:
            self.forget_persons()
        else:
            self._tracker.rescale(across, down)
            self._detected_at = -np.inf  # the tracks have their boxes of before until the next detection


def _photographed(detections: Detections) -> list[Track]:
    """Return the persons in a photo, from left to right."""
    rows = np.flatnonzero(detections.scores >= START_SCORE)
    ordered = rows[np.argsort(detections.boxes[rows, 0], kind="stable")]
    return [detections.track(int(row), index + 1) for index, row in enumerate(ordered)]
