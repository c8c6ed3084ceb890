"""Events as they are published: without ids, or only as counts over several people."""

import msgspec

from emotion_runtime.types import AggregateLine, EmotionEvent, Person

AGGREGATE_SECONDS = 10.0  # media time for which there is one line at most
_COUNTED = ("warming", "steady", "photo")  # a false detection is "new"; who is "lost" is not in view


class Publisher:
    """Takes out of events what is not to be published.

    Args:
        ids: Whether ids are published.
        least: Least number of people over whom counts are published; then nothing else of an event is. None:
            events are published.
    """

    def __init__(self, *, ids: bool = True, least: int | None = None) -> None:
        self._ids = ids
        self._least = least
        self._moments: dict[str, _Moment] = {}  # by source

    @property
    def single_people(self) -> bool:
        """Whether single people are published."""
        return self._least is None

    def event(self, event: EmotionEvent) -> EmotionEvent:
        """Return an event for outputs: as it is, with persons from left to right without ids, or nobody."""
        if self._least is not None:
            return msgspec.structs.replace(event, persons=[])
        return event if self._ids else msgspec.structs.replace(event, persons=self.persons(event.persons))

    def persons(self, persons: list[Person]) -> list[Person]:
        """Return persons for outputs; their order does not tell their ids if these are not published."""
        if self._ids:
            return persons
        ordered = sorted(persons, key=lambda person: person.box)
        return [msgspec.structs.replace(person, id=0) for person in ordered]

    def aggregates(self, event: EmotionEvent, *, still: bool = False) -> list[AggregateLine]:
        """Take note of an event, and return the counts that are due: those of the time before it.

        Args:
            event: The event.
            still: It is of a photo, whose counts are due at once.
        """
        if self._least is None:
            return []
        lines = []
        moment = self._moments.get(event.source)
        if moment is not None and not 0 <= event.t - moment.start < AGGREGATE_SECONDS:
            lines += self.finish(event.source)
            moment = None
        if moment is None:
            moment = self._moments[event.source] = _Moment(event.t)
        moment.add(_counts(event))
        return lines + (self.finish(event.source) if still else [])

    def finish(self, source: str | None = None) -> list[AggregateLine]:
        """Return the counts that are not published yet, of one source or of all."""
        names = list(self._moments) if source is None else [source]
        lines = [self._moments.pop(name).line for name in names if name in self._moments]
        return [line for line in lines if line is not None and line.people >= (self._least or 0)]


class _Moment:
    """The moment with the most labelled people of a time span that begins at `start`."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.line: AggregateLine | None = None

    def add(self, line: AggregateLine) -> None:
        if self.line is None or line.people > self.line.people:
            self.line = line


def _counts(event: EmotionEvent) -> AggregateLine:
    """Return how many people have which label."""
    people = [person for person in event.persons if person.state in _COUNTED and person.top is not None]
    counts = dict.fromkeys((label for person in people for label in person.emotions), 0)
    for person in people:
        counts[str(person.top)] += 1
    return AggregateLine(source=event.source, t=event.t, time=event.time, people=len(people), counts=counts)
