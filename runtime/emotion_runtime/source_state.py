"""The state of one source: who is in view, and since when."""

import logging
from dataclasses import replace

import numpy as np

from emotion_runtime.cuts import CutDetector
from emotion_runtime.intervals import Intervals
from emotion_runtime.person import PersonOptions, PersonState
from emotion_runtime.rates import RateMeter
from emotion_runtime.ring import EARLY_TOLERANCE
from emotion_runtime.scheduler import ALWAYS, Share, capacity, deadline, most_urgent
from emotion_runtime.subject import within
from emotion_runtime.tracker import START_SCORE, Tracker
from emotion_runtime.types import Box, Detections, Frame, Track

_log = logging.getLogger(__name__)
_SLOW_FOR = 5.0  # seconds of slow frames before a warning: starting a backend holds up a few
SLOW_SECONDS = 0.4  # time between two frames in which people who walk get out of the tracker's reach
# Somebody who is expected to have moved by more than this fraction of the box's width is looked for at once.
_DOUBTFUL_DRIFT = 0.3
# Between two detections, nobody is encoded who is expected to have moved by more than this.
_LARGEST_DRIFT = 0.5
_SAME_ASPECT = 0.02  # largest relative difference of the scales of width and height


class SourceState:
    """The people of one source.

    Args:
        options: How the values of a person are computed and shown.
        start_score: Minimum score of a detection that is somebody new.
        still: The source is a single photo: every detection that could start a track is a person.

    Attributes:
        tracks: The tracks at the latest frame, by id. Between two detections, boxes are where people are
            expected from how they moved.
        persons: The state of each of them, by id.
        intervals: Times between the frames.
        cuts: Number of scene cuts.
        detected_at: Time of the latest detection.
        extra: Whether the latest detection was not due, but looked for somebody.
        rates: Measures how often people are detected and encoded.
    """

    def __init__(
        self, options: PersonOptions, *, start_score: float = START_SCORE, still: bool = False
    ) -> None:
        self.tracks: list[Track] = []
        self.persons: dict[int, PersonState] = {}
        self.intervals = Intervals()
        self._options = options
        self._still = still
        self._start_score = start_score
        self._tracker = Tracker(start_score=start_score)
        self._cuts = CutDetector()
        self.cuts = 0
        self._size: tuple[int, int] | None = None
        self._warned = still
        self._fast_at = -np.inf  # time of the latest frame that is not known to be a slow one
        self.detected_at = -np.inf
        self._due_at = -np.inf  # when the latest regular detection was due
        self.extra = False
        self.rates = RateMeter()
        self._share = Share()
        self._shared_at = np.inf  # time of the latest frame for which people were chosen

    def begin(
        self, frame: Frame, detect_every: float, *, may_wait: float = 0.0, on_grid: bool = True
    ) -> bool:
        """Take note of a new frame, and return whether persons should be detected in it.

        A scene cut and a change of the aspect ratio drop everybody; boxes are scaled with the frame size.
        Between two detections that are due, there is another one once it is doubtful where somebody is.

        Args:
            frame: The frame.
            detect_every: Time between two detections in seconds; 0: detect in every frame.
            may_wait: Fraction of that time by which this detection may come later.
            on_grid: Whether `detect_every` is the mean time, whatever the frame rate is, or the least time.
        """
        if frame.t < self.intervals.last:  # the clock of the source began anew
            _log.warning(
                "source %s: time runs backwards (%g s after %g s)", frame.source, frame.t, self.intervals.last
            )
            self.forget_persons()
            self._tracker.start_over()
            self.intervals = Intervals()
        elapsed = self.intervals.add(frame.t)
        if not self._still and self._cuts.cut(frame.image, elapsed):
            self.cuts += 1
            self.forget_persons()
        self._warn_if_slow(frame.source)
        height, width = frame.image.shape[:2]
        before, self._size = self._size, (height, width)
        if before is not None and before != self._size:
            self._resize(height / before[0], width / before[1])
        since = frame.t - self._due_at
        if since >= detect_every * (1 + may_wait) * (1 - EARLY_TOLERANCE):
            # Frames rarely come when a detection is due. Counted from the frame that comes next, every
            # interval would be longer than it should be.
            follows = on_grid and since < 2 * detect_every
            self._due_at, self.extra = (self._due_at + detect_every if follows else frame.t), False
        elif not self.extra and self._tracker.doubtful(frame.t, _DOUBTFUL_DRIFT):
            self.extra = True
        else:
            self._predict(frame.t)
            return False
        self.detected_at = frame.t
        self.rates.detected(frame.t)
        return True

    def follow(self, detections: Detections, frame: Frame) -> None:
        """Take over the persons found in a frame; their state is created and dropped here."""
        if self._still:
            self.tracks = _photographed(detections, self._start_score)
        else:
            self.tracks = self._tracker.update(detections, frame.t)
        known = self.persons
        self.persons = {
            track.id: known.get(track.id) or PersonState(self._options, still=self._still)
            for track in self.tracks
        }
        for track in self.tracks:
            if track.seen:
                person = self.persons[track.id]
                person.see(frame.image, track.box, frame.t)
                if any(_overlap(track.box, other.box) for other in self.tracks if other.id != track.id):
                    person.crowded_at = frame.t

    def missing(self, t: float) -> list[Track]:
        """Return where people may be at time t whom the latest detection did not find."""
        return self._tracker.missing(t)

    def replace(self, track_id: int) -> tuple[int, PersonState]:
        """Give a track a new id and a new state, because another person is in its place; return both."""
        renewed = self._tracker.renew(track_id)
        self.persons.pop(track_id)
        person = self.persons[renewed.id] = PersonState(self._options)
        others = [track for track in self.tracks if track.id != track_id]
        self.tracks = [*others, renewed]
        return renewed.id, person

    def due(self, t: float, every: float = 0.0) -> list[Track]:
        """Return the tracks to encode in the frame of time t: newcomers first, then who waits longest.

        Args:
            t: Time of the frame, in seconds.
            every: Time between two encodings of a person for which a live source has time. 0: a file.
        """
        asked = self._options.clips.every
        elapsed, self._shared_at = max(t - self._shared_at, 0.0), t
        seen = [track for track in self.tracks if track.seen]
        waiting = []
        for track in seen:
            person = self.persons[track.id]
            if not self._still and self._tracker.drift(track.id, t) > _LARGEST_DRIFT:
                continue
            if person.looks_different or person.ring.due(t, 0.0 if person.ring.warming else every):
                waiting.append((track, person))
        if every <= asked:
            limit = capacity(len(seen), self.intervals.usual, asked)
            if every > 0 and self.intervals.usual == 0:  # how long it takes is not known yet, either
                limit = min(limit, ALWAYS)
            return most_urgent([(_urgency(person, track.id), track) for track, person in waiting], limit)
        chosen = most_urgent(
            [((_deadline(person, every, asked), track.id), track) for track, person in waiting],
            self._share.limit(len(seen), elapsed, every),
        )
        self._share.spend(len(chosen))
        return chosen

    def forget_persons(self) -> None:
        """Drop everybody, so that the next frame's people are all new."""
        self._tracker.forget_all()
        self.tracks, self.persons = [], {}
        self._due_at = -np.inf  # detect at once

    def _predict(self, t: float) -> None:
        """Move boxes to where people are expected at time t, but not out of the frame."""
        if self._size is None or self._still:
            return
        before = {track.id: track.box for track in self.tracks}
        moved = []
        for track in self._tracker.predicted(t):
            box = within(track.box, *self._size)
            outside = box[2] - box[0] < 1 or box[3] - box[1] < 1
            moved.append(replace(track, box=before[track.id] if outside else box))
        self.tracks = moved

    def _warn_if_slow(self, source: str) -> None:
        now = self.intervals.last
        if not self.intervals.known or self.intervals.usual <= SLOW_SECONDS:
            self._fast_at = now
        elif not self._warned and now - self._fast_at >= _SLOW_FOR:
            self._warned = True
            _log.warning(
                "source %s is seen only every %.2g s, so people who move get new ids: give a source "
                "of at least %.2g frames per second, or less work per frame (fewer sources, a smaller "
                "--detector-size)",
                source,
                self.intervals.usual,
                1 / SLOW_SECONDS,
            )

    def _resize(self, down: float, across: float) -> None:
        if abs(across / down - 1) > _SAME_ASPECT:
            self.forget_persons()
        else:
            self._tracker.rescale(across, down)
            self._due_at = -np.inf


def _urgency(person: PersonState, track_id: int) -> tuple[float, ...]:
    """Return who comes first while there is time for all: new people, then who was encoded longest ago."""
    return not (person.looks_different or person.ring.warming), person.ring.latest, track_id


def _deadline(person: PersonState, every: float, asked: float) -> float:
    soon = 0.0 if person.looks_different else asked if person.ring.warming else None
    return deadline(person.ring.latest, person.appeared_at, every=every, soon=soon)


def _overlap(a: Box, b: Box) -> bool:
    return min(a[2], b[2]) > max(a[0], b[0]) and min(a[3], b[3]) > max(a[1], b[1])


def _photographed(detections: Detections, start_score: float) -> list[Track]:
    """Return the persons in a photo, from left to right."""
    rows = np.flatnonzero(detections.scores >= start_score)
    ordered = rows[np.argsort(detections.boxes[rows, 0], kind="stable")]
    return [detections.track(int(row), index + 1) for index, row in enumerate(ordered)]
