"""Summarise a run: how long each person was seen, and which emotions they showed for how long."""

from dataclasses import dataclass, field, replace

import msgspec

from emotion_runtime.tracker import CONFIRM_FRAMES
from emotion_runtime.types import EmotionEvent

MAX_PERSONS = 1000  # per source; the memory of a run of weeks stays bounded
_LONGEST = 3  # a frame lasts at most this many times as long as the one before it, or ...
_PAUSE = 1.0  # ... this many seconds


class PersonSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one person.

    Attributes:
        id: The person's id within the source.
        seconds: Media time for which the person was seen.
        emotions: Fraction of this time for which each label was shown, most frequent first. They add up to
            less than 1 if there was no label at times.
        changes: How often another label was shown than before; times without a label do not count.
        first: Media time, in seconds, at which the person was first seen.
        last: Media time, in seconds, of the last frame in which the person was seen.
    """

    id: int
    seconds: float
    emotions: dict[str, float]
    changes: int = 0
    first: float = 0.0
    last: float = 0.0


class SourceSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen in one source.

    Attributes:
        frames: Number of frames.
        seconds: Media time of the source so far.
        persons: The persons seen, by id.
        others: Number of persons who are left out because there were more than `MAX_PERSONS`: those who were
            seen for the shortest times.
    """

    frames: int
    seconds: float
    persons: list[PersonSummary]
    others: int = 0


@dataclass(frozen=True, slots=True)
class _Newest:
    """The newest frame of a source; how long it lasts is known when the next one comes."""

    t: float
    step: float  # seconds since the frame before it; 0 for the first one
    labels: dict[int, str | None]  # the label of each person seen, by id


@dataclass(slots=True)
class _Spent:
    """How one person spent their time."""

    first: float
    last: float
    seconds: dict[str | None, float] = field(default_factory=dict)  # by label
    total: float = 0.0
    label: str | None = None  # the last one that was shown
    changes: int = 0

    def see(self, label: str | None, t: float, seconds: float) -> None:
        """Add a frame at t seconds that lasts `seconds`."""
        self.last = t
        self.total += seconds
        self.seconds[label] = self.seconds.get(label, 0.0) + seconds
        if label is not None:
            self.changes += self.label not in (None, label)
            self.label = label


@dataclass(slots=True)
class _Source:
    frames: int = 0
    seconds: float = 0.0
    newest: _Newest | None = None
    persons: dict[int, _Spent] = field(default_factory=dict)  # by id
    confirmed: set[int] = field(default_factory=set)  # those who were more than "new"
    others: int = 0

    def copied(self) -> "_Source":
        """Return a copy that does not change with this one."""
        persons = {i: replace(person, seconds=dict(person.seconds)) for i, person in self.persons.items()}
        return replace(self, persons=persons, confirmed=set(self.confirmed))


class Summary:
    """Adds up events of any number of sources.

    The state of a frame holds until the next frame; the last one lasts as long as the one before it. Photos
    last no time, and are left out.

    Args:
        pause: Seconds that a frame lasts at most, if that is more than three times as long as the one before
            it: after a longer time nobody knows who was there meanwhile.
    """

    def __init__(self, pause: float = _PAUSE) -> None:
        self._pause = pause
        self._sources: dict[str, _Source] = {}

    def add(self, event: EmotionEvent, *, still: bool = False) -> float:
        """Count the next event of a source.

        Args:
            event: The event.
            still: It is of a photo.

        Returns:
            Seconds that the frame before it lasted; 0 if there was none, or if it was interrupted.
        """
        if is_photo(event, still=still):
            return 0.0
        source = self._sources.setdefault(event.source, _Source())
        source.frames += 1
        last, step = source.newest, 0.0
        if last is not None:
            step = max(event.t - last.t, 0.0)
            if last.step:
                step = min(step, self._longest(last))
            _spend(source, last, step)
        labels = {person.id: person.top for person in event.persons if person.state != "lost"}
        source.newest = _Newest(event.t, step, labels)
        source.confirmed |= {person.id for person in event.persons if person.state != "new"}
        return step

    def interrupt(self, source: str, seconds: float | None = None) -> float:
        """End the newest frame of a source: nothing is known from then until the next one.

        Args:
            source: Name of the source.
            seconds: Time since that frame. None: it lasted as long as the one before it.

        Returns:
            Seconds that it lasted.
        """
        found = self._sources.get(source)
        if found is None or found.newest is None:
            return 0.0
        longest = self._longest(found.newest)
        seconds = found.newest.step if seconds is None else max(min(seconds, longest), 0.0)
        _spend(found, found.newest, seconds)
        found.newest = None
        return seconds

    def _longest(self, frame: _Newest) -> float:
        return max(_LONGEST * frame.step, self._pause)

    def forget(self, source: str) -> None:
        """Drop what is known of a source."""
        self._sources.pop(source, None)

    def of(self, source: str) -> SourceSummary:
        """Return the summary of one source; it is empty if no event of it was added."""
        found = self._sources.get(source, _Source())
        # A copy, as if the source ended now.
        whole = found.copied()
        whole.newest, whole.confirmed = None, set()
        if found.newest is not None:
            _spend(whole, found.newest, found.newest.step)
        # In fewer frames than it takes nobody can be confirmed.
        counted = found.confirmed if found.frames >= CONFIRM_FRAMES else whole.persons.keys()
        summaries = [
            _person_summary(person_id, whole.persons[person_id])
            for person_id in sorted(whole.persons.keys() & counted)
        ]
        return SourceSummary(
            frames=whole.frames, seconds=whole.seconds, persons=summaries, others=whole.others
        )

    def copied(self) -> "Summary":
        """Return a copy to which no events are added."""
        copy = Summary(self._pause)
        copy._sources = {name: source.copied() for name, source in self._sources.items()}
        return copy

    def by_source(self) -> dict[str, SourceSummary]:
        """Return the summary of each source, in the order of their first events."""
        return {name: self.of(name) for name in self._sources}


def is_photo(event: EmotionEvent, *, still: bool = False) -> bool:
    """Return whether an event is about a photo; `still`: that is known of its frame."""
    return still or any(person.state == "photo" for person in event.persons)


def _spend(source: _Source, frame: _Newest, seconds: float) -> None:
    """Add the time of a frame to the persons seen in it."""
    source.seconds += seconds
    for person_id, label in frame.labels.items():
        spent = source.persons.setdefault(person_id, _Spent(frame.t, frame.t))
        spent.see(label, frame.t, seconds)
    while len(source.persons) > MAX_PERSONS + len(frame.labels):
        gone = [person_id for person_id in source.persons if person_id not in frame.labels]
        shortest = min(gone, key=lambda each: source.persons[each].total)
        del source.persons[shortest]
        source.others += shortest in source.confirmed
        source.confirmed.discard(shortest)


def _person_summary(person_id: int, spent: _Spent) -> PersonSummary:
    total = sum(spent.seconds.values())  # exactly what the shares are parts of
    by_time = sorted(spent.seconds.items(), key=lambda item: (-item[1], str(item[0])))
    emotions = {label: seconds / total for label, seconds in by_time if label is not None and total > 0}
    return PersonSummary(
        id=person_id,
        seconds=total,
        emotions=emotions,
        changes=spent.changes,
        first=spent.first,
        last=spent.last,
    )
