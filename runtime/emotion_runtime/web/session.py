"""What happened since the run began: timelines, shares, changes and markers. Numbers only, no images."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timezone

import msgspec

from emotion_runtime.rounding import rounded
from emotion_runtime.summary import SourceSummary, Summary
from emotion_runtime.types import AggregateLine, EmotionEvent
from emotion_runtime.web.timeline import LiveTimeline, TimelineView

_PERSONS = 60  # timelines that are kept; those seen least recently go first
_SHOWN = 30  # timelines that are sent: as many as the page draws
_CHANGES = 1000
_MARKERS = 1000
_COUNTS = 1000
_FRESH = 1.0  # seconds for which all viewers get the same view
_LONGEST_STEP = 1.0  # seconds that one event stands for, at most
MARKER_LENGTH = 200  # characters


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A person's label became another one.

    Attributes:
        at: Seconds since the session began.
        source: Name of the source.
        id: The person.
        before: The label before; None: there was none.
        after: The new label; None: there is none.
    """

    at: float
    source: str
    id: int
    before: str | None
    after: str | None


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """A moment that somebody has marked.

    Attributes:
        at: Seconds since the session began.
        time: Wall-clock time, in UTC.
        text: What was written; may be empty.
    """

    at: float
    time: datetime
    text: str


class CountsView(msgspec.Struct, frozen=True, kw_only=True):
    """How many people had which label at one moment.

    Attributes:
        at: Seconds since the session began.
        source: Name of the source.
        people: Number of people in view who had a label.
        counts: How many of them had each label.
    """

    at: float
    source: str
    people: int
    counts: dict[str, int]


class PersonTimeline(msgspec.Struct, frozen=True, kw_only=True):
    """The timeline of one person.

    Attributes:
        source: Name of the source.
        id: The person.
        timeline: Seconds by label.
    """

    source: str
    id: int
    timeline: TimelineView


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """What happened since the run began.

    Attributes:
        started: When it began, in UTC.
        seconds: How long it lasts.
        shares: Fraction of all time with a label, by label, over all people and sources.
        labelled_seconds: The sum of these times: person-seconds.
        sources: Who was seen in each source for how long and with which labels.
        overall: Timeline over all people.
        people: Timelines of the 30 people seen last.
        changes: The latest changes of labels.
        markers: The latest markers.
        counts: The latest counts over several people, if only these are published; then there are no people
            and no changes, and the shares are those of all who were counted.
    """

    started: datetime
    seconds: float
    shares: dict[str, float]
    labelled_seconds: float
    sources: Mapping[str, SourceSummary]
    overall: TimelineView
    people: list[PersonTimeline]
    changes: list[Change]
    markers: list[Marker]
    counts: list[CountsView]


class LiveSession:
    """Adds up events. Its memory does not grow with the length of a run.

    Args:
        clock: Returns seconds; monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._started = datetime.now(timezone.utc)
        self._lock = threading.Lock()
        self._summary = Summary()
        self._overall = LiveTimeline()
        self._people: dict[tuple[str, int], LiveTimeline] = {}
        self._tops: dict[tuple[str, int], str | None] = {}
        self._latest: dict[str, float] = {}  # time of the latest event, by source
        self._seconds: dict[str, float] = {}  # by label
        self._changes: deque[Change] = deque(maxlen=_CHANGES)
        self._markers: deque[Marker] = deque(maxlen=_MARKERS)
        self._counts: deque[CountsView] = deque(maxlen=_COUNTS)
        self._edits = 0  # what has to be seen at once
        self._encoded: tuple[float, int, bytes] | None = None  # the latest view: when, after which edit, JSON

    def add(self, event: EmotionEvent, *, still: bool = False) -> None:
        """Count an event; `still`: of a photo, which lasts no time."""
        if still:
            return
        with self._lock:
            now = self._clock() - self._start
            step = min(now - self._latest.get(event.source, now), _LONGEST_STEP)
            self._latest[event.source] = now
            # Without ids nobody can be told apart.
            known = [person for person in event.persons if person.id]
            self._summary.add(msgspec.structs.replace(event, persons=known))
            for person in event.persons:
                if person.state in ("lost", "photo", "new"):
                    continue
                if person.top is not None:
                    self._seconds[person.top] = self._seconds.get(person.top, 0.0) + step
                    self._overall.add(now, person.top, step)
                if person.id:  # otherwise ids are not published
                    key = event.source, person.id
                    self._note_change(key, person.top, now)
                    self._timeline(key).add(now, person.top, step)

    def add_counts(self, line: AggregateLine) -> None:
        """Add counts over several people; each of them counts as one second."""
        with self._lock:
            now = self._clock() - self._start
            view = CountsView(at=round(now, 2), source=line.source, people=line.people, counts=line.counts)
            self._counts.append(view)
            self._edits += 1
            for label, count in line.counts.items():
                if count:
                    self._seconds[label] = self._seconds.get(label, 0.0) + count
                    self._overall.add(now, label, count)

    def mark(self, text: str) -> Marker:
        """Set a marker at the present moment."""
        with self._lock:
            at = round(self._clock() - self._start, 2)
            marker = Marker(at=at, time=datetime.now(timezone.utc), text=text)
            self._markers.append(marker)
            self._edits += 1
        return marker

    def markers(self) -> list[Marker]:
        """Return the latest markers."""
        with self._lock:
            return list(self._markers)

    def view(self) -> SessionView:
        """Return what happened so far, with numbers that are rounded."""
        with self._lock:  # only to copy, since the loop of the run waits meanwhile
            now = self._clock() - self._start
            by_label, summary, overall = dict(self._seconds), self._summary.copied(), self._overall.copied()
            people = [(key, one.copied()) for key, one in list(self._people.items())[-_SHOWN:]]
            changes, markers, counts = list(self._changes), list(self._markers), list(self._counts)
        total = sum(by_label.values())
        shares = sorted(by_label.items(), key=lambda item: -item[1])
        return SessionView(
            started=self._started,
            seconds=round(now, 2),
            shares={label: round(seconds / total, 4) for label, seconds in shares if total},
            labelled_seconds=round(total, 2),
            sources={name: rounded(found) for name, found in summary.by_source().items()},
            overall=overall.view(),
            people=[
                PersonTimeline(source=source, id=number, timeline=timeline.view())
                for (source, number), timeline in people
            ],
            changes=changes,
            markers=markers,
            counts=counts,
        )

    def encoded(self) -> bytes:
        """Return what happened so far as JSON; many viewers ask, and a long session takes a while."""
        now, edits, latest = self._clock(), self._edits, self._encoded
        if latest is None or now - latest[0] >= _FRESH or latest[1] != edits:
            latest = now, edits, msgspec.json.encode(self.view())
            self._encoded = latest
        return latest[2]

    def _note_change(self, key: tuple[str, int], top: str | None, now: float) -> None:
        before = self._tops.pop(key, None)
        self._tops[key] = top
        while len(self._tops) > _PERSONS:
            del self._tops[next(iter(self._tops))]
        if top != before:
            source, number = key
            self._changes.append(Change(at=round(now, 2), source=source, id=number, before=before, after=top))

    def _timeline(self, key: tuple[str, int]) -> LiveTimeline:
        """Return the timeline of a person, who is now the one seen last."""
        timeline = self._people.pop(key, None) or LiveTimeline()
        self._people[key] = timeline
        while len(self._people) > _PERSONS:
            del self._people[next(iter(self._people))]
        return timeline
