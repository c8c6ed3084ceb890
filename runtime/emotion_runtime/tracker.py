"""Follow persons over time: which detection of a frame is which person of the frames before.

The detections of a frame are assigned to the predicted positions of the known persons so that the sum of
squared distances is least. How far a head may have moved grows with the time between the frames, so that the
same code follows people at 60 frames per second and at one every ten seconds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from emotion_runtime import motion
from emotion_runtime.assignment import assign
from emotion_runtime.intervals import Intervals
from emotion_runtime.preprocess import BODY_ASPECT, HEAD_OF_BODY
from emotion_runtime.types import Box, Detections, Track

START_SCORE = 0.5  # weaker detections start no track
# A track is confirmed by its third detection in a row, or by a later one this many seconds after the first.
CONFIRM_FRAMES, CONFIRM_SECONDS = 3, 0.2
# A person may be missed in fewer frames than this at any frame rate.
PATIENCE_FRAMES = 3
# No person outlives a gap longer than this many seconds, or than this many of the source's usual intervals.
LONGEST_GAP, LONGEST_GAP_INTERVALS = 10.0, 4.0

# How far a detection may lie from the predicted position of its person: `_REACH` box widths at once; with
# time, the speed of people who run (for persons whose speed is not known yet) or a change of the known speed,
# in head widths per second; and never more than `_FARTHEST` head widths beyond the first.
_REACH, _FARTHEST = 0.6, 2.5
_FASTEST, _CHANGE, _CHANGE_OF_SPEED = 10.0, 3.0, 0.5
_WEAK_REACH = 0.5  # detections too weak to start a track reach only this fraction as far
_WEAK_COST = 0.1  # and are chosen last among equals (squared box widths)
_LARGEST_RATIO = 3.0  # between the sizes of a head in two frames
_IMPOSSIBLE = 1e6


@dataclass(slots=True)
class _Known:
    """A person who is followed.

    Attributes:
        track: The track at its last detection.
        first_seen: Time of the first of them, in seconds.
        last_seen: Time of the latest detection, in seconds.
        detections: Number of detections in a row while unconfirmed.
        missed: Number of frames since the latest detection.
        rates: How the box moves, see `motion.measured`. None until there are two detections.
    """

    track: Track
    first_seen: float
    last_seen: float
    detections: int = 1
    missed: int = 0
    rates: motion.Rates | None = None


class Tracker:
    """Gives every person of one source a lasting id. Use one object per source.

    Args:
        max_lost_seconds: A person unseen for longer, and in more than `PATIENCE_FRAMES` frames, is dropped;
            one who reappears later gets a new id.
        start_score: Minimum score of detections that start a track. Weaker ones only continue a track.
    """

    def __init__(self, *, max_lost_seconds: float = 1.0, start_score: float = START_SCORE) -> None:
        self._max_lost_seconds = max_lost_seconds
        self._start_score = start_score
        self._known: list[_Known] = []
        self._next_id = 1
        self._intervals = Intervals()

    def update(self, detections: Detections, t: float) -> list[Track]:
        """Return the visible tracks after this frame, and the lost ones that are not dropped yet, by id.

        A detection that continues no track starts one at once; it is unconfirmed until it is found again.

        Args:
            detections: The persons found in the frame, with finite values.
            t: Seconds of media time, not decreasing; steps may be of any length.

        Returns:
            Tracks with `seen=False` for lost persons, who keep their last box. An unconfirmed track is not
            returned while it is lost.

        Raises:
            ValueError: `t` is earlier than that of the previous frame.
        """
        if t < self._intervals.last:
            raise ValueError(f"t {t} is earlier than that of the previous frame ({self._intervals.last})")
        elapsed = self._intervals.add(t)
        self._drop_after_gap(elapsed)
        found = [replace(detections.track(row, 0), confirmed=False) for row in range(len(detections.scores))]
        taken = self._match(found, t)
        for known in self._known:
            known.missed += 1
        for row, known in taken.items():
            _continue(known, found[row], t)
        self._known = [known for known in self._known if self._keeps(known, t)]
        self._start([each for row, each in enumerate(found) if row not in taken], t)
        return [
            known.track if not known.missed else replace(known.track, seen=False)
            for known in self._published()
        ]

    def forget_all(self) -> None:
        """Drop all tracks, as after a scene cut. Ids go on counting."""
        self._known = []

    def start_over(self) -> None:
        """Drop all tracks, and let the time begin anew. Ids go on counting."""
        self._known = []
        self._intervals = Intervals()

    def renew(self, track_id: int) -> Track:
        """Give a track a new id, because another person has taken its place, and return it.

        The track stays confirmed if it was: somebody is there.
        """
        known = next(known for known in self._known if known.track.id == track_id)
        known.track = replace(known.track, id=self._next_id)
        self._next_id += 1
        return known.track

    def predicted(self, t: float) -> list[Track]:
        """Return the tracks as after the latest frame, with boxes where they are expected at time t."""
        return [
            replace(known.track, seen=False)
            if known.missed
            else known.track
            if known.rates is None
            else motion.predicted(known.track, known.rates, max(t - known.last_seen, 0.0))
            for known in self._published()
        ]

    def missing(self, t: float) -> list[Track]:
        """Return where persons may be at time t whom the latest detection did not find.

        Each is there twice: where the person was seen last, and where they are expected. People who are not
        published, since they are not confirmed, are there, too.
        """
        missed = [known for known in self._known if known.missed]
        moved = [
            motion.predicted(known.track, known.rates, max(t - known.last_seen, 0.0))
            for known in missed
            if known.rates is not None
        ]
        return [*(known.track for known in missed), *moved]

    def drift(self, track_id: int, t: float) -> float:
        """Return how far a person has moved since the latest detection, as far as their speed tells.

        Args:
            track_id: The person's track.
            t: The present time in seconds.

        Returns:
            Widths of the box; infinity if time has passed and the speed is not known yet.
        """
        return _drift(next(known for known in self._known if known.track.id == track_id), t)

    def doubtful(self, t: float, drift: float) -> bool:
        """Return whether it is doubtful where everybody is at time t, so that a detection would help.

        That is the case if somebody's speed is not known, if somebody has moved by more than `drift` widths
        of the box, or if somebody was missed by the latest detection but not by those before.
        """
        return any(
            known.missed == 1 if known.missed else _drift(known, t) > drift for known in self._published()
        )

    def rescale(self, x: float, y: float) -> None:
        """Multiply all positions, because the size of the frames changed by these factors."""
        for known in self._known:
            marks, head = known.track.landmarks, known.track.head
            known.track = replace(
                known.track,
                box=_scaled(known.track.box, x, y),
                landmarks=None if marks is None else tuple((px * x, py * y) for px, py in marks),
                head=None if head is None else _scaled(head, x, y),
            )
            if known.rates is not None:
                known.rates = known.rates * (x, y, x, y)

    def _published(self) -> list[_Known]:
        """Return the persons who are published, by id."""
        known = [each for each in self._known if each.track.confirmed or not each.missed]
        return sorted(known, key=lambda each: each.track.id)

    def _drop_after_gap(self, elapsed: float) -> None:
        """Drop everybody after a time without frames in which they may well have left."""
        if elapsed > max(LONGEST_GAP, LONGEST_GAP_INTERVALS * self._intervals.usual):
            self._known = []

    def _keeps(self, known: _Known, t: float) -> bool:
        return t - known.last_seen <= self._max_lost_seconds or known.missed < PATIENCE_FRAMES

    def _match(self, found: list[Track], t: float) -> dict[int, _Known]:
        """Return the person of each row of `found` that continues a track."""
        if not found or not self._known:
            return {}
        costs = self._costs(found, t)
        return {
            column: self._known[row]
            for row, column in assign(costs).items()
            if costs[row, column] < _IMPOSSIBLE
        }

    def _costs(self, found: list[Track], t: float) -> NDArray[np.float64]:
        """Return squared distances (K, N) in box widths between persons and detections.

        They are huge for detections out of reach.
        """
        here, there = _geometry([known.track for known in self._known]), _geometry(found)
        elapsed = np.array([max(t - known.last_seen, 0.0) for known in self._known])
        speeds = np.array([(0.0, 0.0) if known.rates is None else known.rates[:2] for known in self._known])
        predicted = here.centers + speeds * motion.coasted(elapsed)[:, None]
        distance = np.linalg.norm(predicted[:, None] - there.centers[None], axis=2)
        size = np.log(there.sides[None] / here.sides[:, None])
        weak = np.array([each.score < self._start_score for each in found])
        reach = self._reach(here, elapsed, speeds)[:, None] * np.where(weak, _WEAK_REACH, 1.0)[None]
        width = (here.widths[:, None] + there.widths[None]) / 2
        cost = (distance / width) ** 2 + size**2 + np.where(weak, _WEAK_COST, 0.0)[None]
        cost[(distance > reach) | (np.abs(size) > math.log(_LARGEST_RATIO))] = _IMPOSSIBLE
        return np.asarray(cost)

    def _reach(
        self, here: "_Geometry", elapsed: NDArray[np.float64], speeds: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return how far from the predicted positions persons may be found, (K,) in pixels."""
        heads_per_second = np.linalg.norm(speeds, axis=1) / here.heads
        known = np.array([known.rates is not None for known in self._known])
        change = np.where(known, _CHANGE + _CHANGE_OF_SPEED * heads_per_second, _FASTEST)
        return np.asarray(_REACH * here.widths + here.heads * np.minimum(change * elapsed, _FARTHEST))

    def _start(self, found: list[Track], t: float) -> None:
        """Start a track for each strong enough detection, numbered from left to right."""
        for each in sorted(found, key=lambda track: track.box[0]):
            if each.score >= self._start_score:
                self._known.append(_Known(replace(each, id=self._next_id), t, t))
                self._next_id += 1


def _continue(known: _Known, found: Track, t: float) -> None:
    """Move a person to a detection."""
    elapsed = t - known.last_seen
    if elapsed > 0:
        known.rates = motion.measured(known.track.box, found.box, elapsed, known.rates)
    if known.missed > 1 and not known.track.confirmed:  # counts this frame too
        known.detections, known.first_seen = 0, t
    known.detections += 1
    known.missed = 0
    known.last_seen = t
    confirmed = known.track.confirmed or (
        known.detections >= CONFIRM_FRAMES or t - known.first_seen >= CONFIRM_SECONDS
    )
    known.track = replace(found, id=known.track.id, confirmed=confirmed)


def _drift(known: _Known, t: float) -> float:
    elapsed = t - known.last_seen
    if elapsed <= 0:
        return 0.0
    return math.inf if known.rates is None else motion.drift(known.track.box, known.rates, elapsed)


@dataclass(frozen=True, slots=True)
class _Geometry:
    """Positions and sizes of boxes, in pixels.

    Attributes:
        centers: (N, 2), x and y.
        widths: (N,).
        heads: Widths of the heads, (N,): a box that is much taller than wide shows a body.
        sides: Square root of the area, (N,).
    """

    centers: NDArray[np.float64]
    widths: NDArray[np.float64]
    heads: NDArray[np.float64]
    sides: NDArray[np.float64]


def _geometry(tracks: Sequence[Track]) -> _Geometry:
    boxes = np.array([track.box for track in tracks], np.float64)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    widths, heights = sides[:, 0], sides[:, 1]
    heads = np.where(heights > BODY_ASPECT * widths, HEAD_OF_BODY * widths, widths)
    return _Geometry((boxes[:, :2] + boxes[:, 2:]) / 2, widths, heads, np.sqrt(widths * heights))


def _scaled(box: Box, x: float, y: float) -> Box:
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y
