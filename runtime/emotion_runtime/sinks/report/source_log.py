"""What a report needs of one source, in memory that does not grow with its length."""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime

from emotion_runtime.sinks.report.timeline import Timeline
from emotion_runtime.types import EmotionEvent, Person, StatusLine

NO_LABEL = ""  # as a key of timelines
MAX_PERSONS = 100  # with a timeline; of more people those seen longest keep theirs
NEWEST = 100  # so many changes of labels, and of the status, are kept
_UNKNOWN = "uncertain"  # a file of another program may state no reason
_QUALITY = ("head_px", "sharpness", "inside", "frontal")


@dataclass(frozen=True, slots=True)
class LabelChange:
    """Another label is shown for a person than before.

    Attributes:
        t: Media time in seconds.
        time: Wall-clock time, if it is known.
        person: The id.
        before: The label before.
        after: The label from now on.
    """

    t: float
    time: datetime | None
    person: int
    before: str
    after: str


@dataclass(slots=True)
class PersonLog:
    """What is known of one person.

    Attributes:
        seconds: Time seen.
        timeline: Seconds by label; `NO_LABEL` for none.
        reasons: Seconds without a label, by reason.
        label: The last label that was shown.
    """

    seconds: float = 0.0
    timeline: Timeline = field(default_factory=Timeline)
    reasons: dict[str, float] = field(default_factory=dict)
    label: str | None = None
    _sums: dict[str, tuple[float, int]] = field(default_factory=dict)

    def spend(self, person: Person, t: float, seconds: float) -> None:
        """Add a frame at t that lasted some seconds."""
        self.seconds += seconds
        self.timeline.add(person.top or NO_LABEL, t, seconds)
        if person.top is None:
            _add(self.reasons, person.why or _UNKNOWN, seconds)

    def see(self, person: Person) -> None:
        """Add the quality of view in one frame."""
        for name in _QUALITY if person.quality is not None else ():
            value = getattr(person.quality, name)
            if value is not None:
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = total + round(value, 3), count + 1  # as JSON lines have it

    def quality(self) -> dict[str, float]:
        """Return the mean of each value of the quality that was measured."""
        return {name: total / count for name, (total, count) in self._sums.items()}


@dataclass(slots=True)
class SourceLog:
    """What is known of one source.

    Attributes:
        frames: Number of frames.
        last_frame: Number of the newest frame in the source; -1 before the first one.
        dropped: Frames dropped because they were too old.
        start: Wall-clock time of the first frame, if it is known.
        end: The same of the last one.
        length: Media time, in seconds, at which the last frame ended.
        latency: Sum of the times from capture to event, in milliseconds.
        longest_latency: The longest of them.
        timeline: Seconds of all people by label; `NO_LABEL` for none.
        spent: The same, added up.
        reasons: Seconds of all people without a label, by reason.
        ids: Whether people have ids; with `--no-ids` they have not.
        persons: The people who have a timeline, by id.
        changes: The newest changes of labels.
        change_count: Number of all changes.
        statuses: The newest changes of the status.
        status_count: Number of all changes of the status.
        newest: The newest frame, until it is known how long it lasted.
    """

    frames: int = 0
    last_frame: int = -1
    dropped: int = 0
    start: datetime | None = None
    end: datetime | None = None
    length: float = 0.0
    latency: float = 0.0
    longest_latency: float = 0.0
    timeline: Timeline = field(default_factory=Timeline)
    spent: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, float] = field(default_factory=dict)
    ids: bool = True
    persons: dict[int, PersonLog] = field(default_factory=dict)
    changes: deque[LabelChange] = field(default_factory=lambda: deque(maxlen=NEWEST))
    change_count: int = 0
    statuses: deque[StatusLine] = field(default_factory=lambda: deque(maxlen=NEWEST))
    status_count: int = 0
    newest: EmotionEvent | None = None

    def spend(self, seconds: float) -> None:
        """Count the newest frame, which lasted some seconds."""
        event, self.newest = self.newest, None
        if event is None:
            return
        self.length = max(self.length, event.t + seconds)
        for person in _in_view(event):
            if person.state != "new":  # perhaps a false detection
                label = person.top or NO_LABEL
                self.timeline.add(label, event.t, seconds)
                _add(self.spent, label, seconds)
                if person.top is None:
                    _add(self.reasons, person.why or _UNKNOWN, seconds)
            if person.id:
                self._log_of(person.id).spend(person, event.t, seconds)
        self._forget_the_shortest({person.id for person in _in_view(event)})

    def see(self, event: EmotionEvent) -> None:
        """Take the next frame."""
        self.newest = event
        self.frames += 1
        self.last_frame = event.frame
        self.dropped = max(self.dropped, event.dropped)
        self.start, self.end = self.start or event.time, event.time or self.end
        self.length = max(self.length, event.t)
        self.latency += event.latency_ms
        self.longest_latency = max(self.longest_latency, event.latency_ms)
        for person in _in_view(event):
            if person.id:
                self._see_person(person, event)
            else:
                self.ids = False

    def _see_person(self, person: Person, event: EmotionEvent) -> None:
        log = self._log_of(person.id)
        log.see(person)
        if person.top is None:
            return
        if log.label not in (None, person.top):
            self.change_count += 1
            self.changes.append(LabelChange(event.t, event.time, person.id, str(log.label), person.top))
        log.label = person.top

    def add_status(self, line: StatusLine) -> None:
        """Take a change of the status."""
        self.status_count += 1
        self.statuses.append(line)

    def _log_of(self, person_id: int) -> PersonLog:
        return self.persons.setdefault(person_id, PersonLog())

    def _forget_the_shortest(self, in_view: set[int]) -> None:
        while len(self.persons) > MAX_PERSONS + len(in_view):
            gone = [person_id for person_id in self.persons if person_id not in in_view]
            del self.persons[min(gone, key=lambda each: self.persons[each].seconds)]


def _add(sums: dict[str, float], key: str, seconds: float) -> None:
    sums[key] = sums.get(key, 0.0) + seconds


def _in_view(event: EmotionEvent) -> list[Person]:
    return [person for person in event.persons if person.state != "lost"]
