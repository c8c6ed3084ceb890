"""What a report needs of one session, in memory that does not grow with its length."""

from datetime import datetime, timezone

import msgspec

from emotion_runtime.sinks.report.source_log import SourceLog
from emotion_runtime.summary import SourceSummary, Summary, is_photo
from emotion_runtime.types import EmotionEvent, Person, RunLine, StatusLine

MAX_SOURCES = 30  # the first ones; of more sources only the number is known
MAX_PHOTOS = 200  # likewise
MAX_IN_PHOTO = 50  # people
MAX_LABELS = 60
OTHER_LABELS = "other labels"
_END = 1e12  # seconds; later times are a mistake in the file
_COUNTED = 100_000  # names of sources that are left out, to count them
_SEEING = ("live", "degraded")  # statuses in which the newest frame still holds


class Session:
    """Adds up the events and changes of status of one run.

    Args:
        run: What made the events. None: not known.
        pause: See `Summary`. None: as there.

    Attributes:
        run: As given.
        labels: The labels that occur, in the order of the head.
        sources: What is known of each source.
        photos: The first photos, with the persons in them.
        more_photos: Number of photos that are left out.
        more_sources: Names of sources that are left out.
    """

    def __init__(self, run: RunLine | None = None, *, pause: float | None = None) -> None:
        self.run = run
        self.labels: list[str] = []
        self.sources: dict[str, SourceLog] = {}
        self.photos: list[tuple[str, list[Person]]] = []
        self.more_photos = 0
        self.more_sources: set[str] = set()
        self._single: dict[str, EmotionEvent] = {}  # first frames of sources, without people
        self._summary = Summary() if pause is None else Summary(pause)

    def add(self, event: EmotionEvent, *, still: bool | None = None) -> None:
        """Take the next event of a source.

        Args:
            event: The event.
            still: Whether it is of a photo. None: not known; it is if its source has a single frame without
                people, or if its people say so.
        """
        event = self._plain(event)
        if still is None and not event.persons and self._is_new(event.source):
            self._single[event.source] = event
            if len(self._single) > MAX_PHOTOS:
                self._add_photo(self._single.pop(next(iter(self._single))))
            return
        first = self._single.pop(event.source, None)
        if first is not None:
            self._add_frame(first)
        if is_photo(event, still=bool(still)):
            self._add_photo(event)
        else:
            self._add_frame(event)

    def _is_new(self, source: str) -> bool:
        return source not in self.sources and source not in self._single and source not in self.more_sources

    def _add_photo(self, event: EmotionEvent) -> None:
        if len(self.photos) < MAX_PHOTOS:
            self.photos.append((event.source, event.persons[:MAX_IN_PHOTO]))
        else:
            self.more_photos += 1

    def _add_frame(self, event: EmotionEvent) -> None:
        log = self._log_of(event.source)
        if log is not None:
            log.spend(self._summary.add(event))
            log.see(event)

    def add_status(self, line: StatusLine) -> None:
        """Take a change of the status of a source."""
        log = self._log_of(line.source)
        if log is None:
            return
        line = msgspec.structs.replace(line, time=_utc(line.time))
        log.add_status(line)
        if line.status not in _SEEING:
            time = log.newest.time if log.newest is not None else None
            since = None if time is None else (line.time - time).total_seconds()
            log.spend(self._summary.interrupt(line.source, since))

    def finish(self) -> None:
        """Count the last frame of each source, which lasts as long as the one before it."""
        while self._single:
            self._add_photo(self._single.pop(next(iter(self._single))))
        for name, log in self.sources.items():
            log.spend(self._summary.interrupt(name))

    def summary(self, source: str) -> SourceSummary:
        """Return the summary of a source."""
        return self._summary.of(source)

    def last_frame(self, source: str) -> int | None:
        """Return the number of the newest frame of a source; None if there was none."""
        log = self.sources.get(source)
        return None if log is None or log.last_frame < 0 else log.last_frame

    def _log_of(self, source: str) -> SourceLog | None:
        """Return what is known of a source; None if it is left out."""
        if source not in self.sources:
            if len(self.sources) >= MAX_SOURCES:
                if len(self.more_sources) < _COUNTED:
                    self.more_sources.add(source)
                return None
            self.sources[source] = SourceLog()
        return self.sources[source]

    def _plain(self, event: EmotionEvent) -> EmotionEvent:
        """Return the event with times that can be drawn, and without labels beyond the first `MAX_LABELS`."""
        for person in event.persons:
            for label in (*person.emotions, *filter(None, [person.top])):
                if label not in self.labels and len(self.labels) < MAX_LABELS:
                    self.labels.append(label)
        persons = event.persons
        if any(person.top is not None and person.top not in self.labels for person in persons):
            if OTHER_LABELS not in self.labels:
                self.labels.append(OTHER_LABELS)
            persons = [
                person
                if person.top is None or person.top in self.labels
                else msgspec.structs.replace(
                    person, top=OTHER_LABELS, emotions={OTHER_LABELS: person.emotions.get(person.top, 0.0)}
                )
                for person in persons
            ]
        time = None if event.time is None else _utc(event.time)
        t = min(max(round(event.t, 6), 0.0), _END)  # as JSON lines have it
        if time is event.time and t == event.t and persons is event.persons:
            return event
        return msgspec.structs.replace(event, t=t, time=time, persons=persons)


def _utc(time: datetime) -> datetime:
    if time.tzinfo is timezone.utc:
        return time
    try:
        return (time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time).astimezone(timezone.utc)
    except OverflowError:  # of the year 1 or 9999
        return time.replace(tzinfo=timezone.utc)
