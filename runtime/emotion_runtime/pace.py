"""Choose how often people of live sources are detected and encoded, so that the machine keeps up.

The choice follows from the time that the work took so far. It is only for live sources: what is computed from
a file depends on the file alone.
"""

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

# Fraction of the time that passes in which the loop may be busy. The rest is for variations, so that frames
# are taken when they come.
LOAD = 0.7
# Seconds between two detections at most, so that new people are found: as long as the detections of all
# sources then take less than half of the time.
LONGEST_DETECT = 0.5
_LEAST = 0.1  # fraction of the time that is left for detecting and encoding, whatever else takes time
_SECONDS = 2.0  # time constant of measured loads; a source without a frame for longer needs no time
_COSTS = 9  # latest times of a detection and an encoding whose median counts


@dataclass(frozen=True, slots=True)
class StepCost:
    """What one step of the pipeline did, and how long it took, in seconds of one clock.

    Attributes:
        begun: Time at which it began.
        ended: Time at which it ended.
        detecting: Time in the detector.
        detections: Number of images in which people were detected.
        extra: How many of them were not due, but looked for somebody.
        encoding: Time for encoding people and for their predictions.
        encoded: Number of people encoded.
        writing: Time that the outputs took from the beginning of the run to this step.
    """

    begun: float
    ended: float
    detecting: float = 0.0
    detections: int = 0
    extra: int = 0
    encoding: float = 0.0
    encoded: int = 0
    writing: float = 0.0


@dataclass(frozen=True, slots=True)
class LiveView:
    """A live source in a step.

    Attributes:
        name: Name of the source.
        interval: Usual time between two frames, in seconds; 0 if it is not known.
        people: Number of people in view.
    """

    name: str
    interval: float
    people: int


class Pace:
    """The times between two detections of a live source and between two encodings of a person.

    They are the same for all sources and persons.

    Args:
        every: Time between two encodings of a person that is asked for, in seconds.

    Attributes:
        detect_every: Time between two detections of a source in seconds; 0: in every frame.
        encode_every: Time between two encodings of a person in seconds: `every`, or more if there is no time.
    """

    def __init__(self, every: float) -> None:
        self.detect_every = 0.0
        self.encode_every = every
        self._every = every
        self._last: StepCost | None = None
        self._measured_for = 0.0  # seconds
        # Work per second: seconds of it, and numbers of detections.
        self._rates = dict.fromkeys(("detecting", "encoding", "other", "detections", "extra"), 0.0)
        self._views: dict[str, tuple[float, LiveView]] = {}  # with the time of the latest step, by name
        self._detect_costs: deque[float] = deque(maxlen=_COSTS)
        self._encode_costs: deque[float] = deque(maxlen=_COSTS)

    @property
    def load(self) -> float:
        """Fraction of the time in which the loop was busy lately."""
        return self._rates["detecting"] + self._rates["encoding"] + self._rates["other"]

    def update(self, step: StepCost, views: Sequence[LiveView]) -> None:
        """Take note of a step, and choose the times anew.

        Args:
            step: What the step did.
            views: The live sources that had a frame in it.
        """
        self._views |= {view.name: (step.ended, view) for view in views}
        self._views = {
            name: (at, view)
            for name, (at, view) in self._views.items()
            if step.ended - at <= max(_SECONDS, 2 * view.interval)
        }
        if step.detections:
            self._detect_costs.append(step.detecting / step.detections)
        if step.encoded:
            self._encode_costs.append(step.encoding / step.encoded)
        self._measure(step)
        self._choose()

    def _measure(self, step: StepCost) -> None:
        last, self._last = self._last, step
        if last is None or step.ended <= last.ended:  # the first step of a run is slower than the others
            return
        elapsed = step.ended - last.ended
        self._measured_for += elapsed
        weight = max(1 - math.exp(-elapsed / _SECONDS), elapsed / self._measured_for)
        other = step.ended - step.begun - step.detecting - step.encoding + step.writing - last.writing
        work = (step.detecting, step.encoding, other, step.detections, step.extra)
        for name, amount in zip(self._rates, work, strict=True):
            self._rates[name] += weight * (amount / elapsed - self._rates[name])

    def _choose(self) -> None:
        views = [view for _, view in self._views.values()]
        detecting = statistics.median(self._detect_costs) if self._detect_costs else 0.0
        encoding = statistics.median(self._encode_costs) if self._encode_costs else 0.0
        due = self._rates["detections"] - self._rates["extra"]
        if due > 0:  # the chosen time is that between detections that are due; the others come on top
            detecting *= min(self._rates["detections"] / due, 2.0)
        free = max(LOAD - self._rates["other"], _LEAST)
        for_detecting = min(len(views) * detecting / LONGEST_DETECT, free / 2)
        needed = sum(view.people for view in views) * encoding
        self.encode_every = max(self._every, needed / (free - for_detecting))
        taken = max(self._rates["encoding"], needed / self.encode_every)
        intervals = [view.interval for view in views]
        left = free - taken
        if detecting > min(intervals, default=math.inf):
            left = min(left, LOAD / 2)  # frames are dropped during each detection
        self.detect_every = _shortest(intervals, detecting, max(left, for_detecting))


def _shortest(intervals: Sequence[float], cost: float, load: float) -> float:
    """Return the shortest time between detections with which they take no more than a fraction of the time.

    Args:
        intervals: Time between two frames of each source, in seconds.
        cost: Seconds that one detection takes.
        load: The fraction.

    Returns:
        Seconds; 0 if there is time for every frame.
    """
    left = sorted(intervals)
    while left and cost > 0:
        every = len(left) * cost / load
        if left[-1] <= every:
            return every
        load -= cost / left.pop()  # people are detected in every frame of a slower source
    return 0.0
