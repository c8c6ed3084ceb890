"""Summarise a run: how long each person was seen, and which emotions they showed for how long."""

from dataclasses import dataclass, field

import msgspec

from emotion_runtime.tracker import CONFIRM_FRAMES
from emotion_runtime.types import EmotionEvent

MAX_PERSONS = 1000  # per source; the memory of a run of weeks stays bounded
_LONGEST = 3  # a frame lasts at most this many times as long as the one before it, or ...
_PAUSE = 1.0  # ... this many seconds: after a longer pause nobody knows who was there meanwhile


class PersonSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one person.

    Attributes:
        id: The person's id within the source.
        seconds: Media time for which the person was seen.
        emotions: Fraction of this time for which each label was shown, most frequent first. They add up to
            less than 1 if there was no label at times.
    """

    id: int
    seconds: float
    emotions: dict[str, float]


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
class _Source:
    frames: int = 0
    seconds: float = 0.0
    newest: _Newest | None = None
    persons: dict[int, dict[str | None, float]] = field(default_factory=dict)  # seconds by label, by id
    confirmed: set[int] = field(default_factory=set)  # those who were more than "new"
    others: int = 0


class Summary:
    """Adds up events of any number of sources.

    The state of a frame holds until the next frame; the last one lasts as long as the one before it. Photos
    last no time, and are left out.
    """

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}

    def add(self, event: EmotionEvent, *, still: bool = False) -> None:
        """Count the next event of a source; `still`: of a photo."""
        if still or any(person.state == "photo" for person in event.persons):
            return
        source = self._sources.setdefault(event.source, _Source())
        source.frames += 1
        last, step = source.newest, 0.0
        if last is not None:
            step = max(event.t - last.t, 0.0)
            if last.step:
                step = min(step, max(_LONGEST * last.step, _PAUSE))
            _spend(source, last.labels, step)
        labels = {person.id: person.top for person in event.persons if person.state != "lost"}
        source.newest = _Newest(event.t, step, labels)
        source.confirmed |= {person.id for person in event.persons if person.state != "new"}

    def forget(self, source: str) -> None:
        """Drop what is known of a source."""
        self._sources.pop(source, None)

    def of(self, source: str) -> SourceSummary:
        """Return the summary of one source; it is empty if no event of it was added."""
        found = self._sources.get(source, _Source())
        # A copy, as if the source ended now.
        whole = _Source(
            found.frames,
            found.seconds,
            None,
            {i: dict(p) for i, p in found.persons.items()},
            others=found.others,
        )
        if found.newest is not None:
            _spend(whole, found.newest.labels, found.newest.step)
        # In fewer frames than it takes nobody can be confirmed.
        counted = found.confirmed if found.frames >= CONFIRM_FRAMES else whole.persons.keys()
        persons = [
            _person_summary(person_id, whole.persons[person_id])
            for person_id in sorted(whole.persons.keys() & counted)
        ]
        return SourceSummary(frames=whole.frames, seconds=whole.seconds, persons=persons, others=whole.others)

    def by_source(self) -> dict[str, SourceSummary]:
        """Return the summary of each source, in the order of their first events."""
        return {name: self.of(name) for name in self._sources}


def _spend(source: _Source, labels: dict[int, str | None], seconds: float) -> None:
    """Add the time of a frame to the persons seen in it."""
    source.seconds += seconds
    for person_id, label in labels.items():
        spent = source.persons.setdefault(person_id, {})
        spent[label] = spent.get(label, 0.0) + seconds
    while len(source.persons) > MAX_PERSONS + len(labels):
        gone = [person_id for person_id in source.persons if person_id not in labels]
        shortest = min(gone, key=lambda each: sum(source.persons[each].values()))
        del source.persons[shortest]
        source.others += shortest in source.confirmed
        source.confirmed.discard(shortest)


def _person_summary(person_id: int, spent: dict[str | None, float]) -> PersonSummary:
    total = sum(spent.values())
    by_time = sorted(spent.items(), key=lambda item: (-item[1], str(item[0])))
    emotions = {label: seconds / total for label, seconds in by_time if label is not None and total > 0}
    return PersonSummary(id=person_id, seconds=total, emotions=emotions)
