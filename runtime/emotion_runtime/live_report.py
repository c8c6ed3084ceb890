"""How live sources do: one line a minute while a run goes on, and one for each source at its end."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from emotion_runtime.rates import Rates
from emotion_runtime.types import WATCHING, EmotionEvent, StatusLine

EVERY = 60.0  # seconds between two lines
_RATES_EVERY = 1.0  # seconds between two looks at the rates
_LATENCIES = 20_000  # of one source and minute; more are left out of the percentile


@dataclass(slots=True)
class _Numbers:
    """What was counted of one source.

    Attributes:
        events: Events in all.
        before: Events until the latest line.
        dropped: Frames dropped in all.
        dropped_before: Frames dropped until the latest line.
        people: People in view in the latest event.
        latencies: Latencies since the latest line, in milliseconds.
        status: The latest change of the status.
        told: A line has told that the source has ended.
        losses: How often the source was lost.
        lost_at: Since when it is lost, on the scale of the clock. None: it is not.
        lost_seconds: Time for which it was lost before.
        rates: How often people were detected and encoded, when that was looked at latest.
    """

    events: int = 0
    before: int = 0
    dropped: int = 0
    dropped_before: int = 0
    people: int = 0
    latencies: list[float] = field(default_factory=list)
    status: StatusLine | None = None
    told: bool = False
    losses: int = 0
    lost_at: float | None = None
    lost_seconds: float = 0.0
    rates: Rates = field(default_factory=Rates)


class LiveReport:
    """Counts the events of live sources, and what happens to the sources.

    Args:
        rates: Returns how often people were detected and encoded lately, by source.
        clock: Returns seconds; monotonic.
        people: Whether the lines have what tells how many people are in view.
    """

    def __init__(
        self,
        rates: Callable[[], Mapping[str, Rates]],
        clock: Callable[[], float] = time.monotonic,
        *,
        people: bool = True,
    ) -> None:
        self._rates = rates
        self._people = people
        self._rates_at = -np.inf
        self._clock = clock
        self._start = self._latest = clock()
        self._sources: dict[str, _Numbers] = {}

    def add(self, event: EmotionEvent) -> None:
        """Count an event, as it is published."""
        numbers = self._sources.setdefault(event.source, _Numbers())
        numbers.events += 1
        numbers.dropped = event.dropped
        numbers.people = sum(person.state != "lost" for person in event.persons)
        if len(numbers.latencies) < _LATENCIES:
            numbers.latencies.append(event.latency_ms)
        now = self._clock()
        if now - self._rates_at >= _RATES_EVERY:
            self._rates_at = now
            for name, rates in self._rates().items():
                self._sources.setdefault(name, _Numbers()).rates = rates

    def add_status(self, line: StatusLine) -> None:
        """Take note of a change of the status of a source."""
        numbers = self._sources.setdefault(line.source, _Numbers())
        if line.status == "lost" and numbers.lost_at is None:
            numbers.losses += 1
            numbers.lost_at = self._clock()
        elif line.status not in ("lost", "connecting") and numbers.lost_at is not None:
            numbers.lost_seconds += self._clock() - numbers.lost_at
            numbers.lost_at = None
        if line.status not in WATCHING:
            numbers.people = 0
        numbers.status, numbers.told = line, False

    def line(self) -> str | None:
        """Return what happened since the latest line, in one line; None before it is time for one."""
        now = self._clock()
        seconds = now - self._latest
        if seconds < EVERY:
            return None
        self._latest = now
        texts = []
        for name, numbers in self._sources.items():
            events = numbers.events - numbers.before
            if numbers.told and not events:
                continue
            numbers.told = numbers.status is not None and numbers.status.status == "ended"
            text = f"{name} {_status(numbers.status)}{events / seconds:.1f} events/s"
            if numbers.latencies:
                text += f", latency p95 {np.percentile(numbers.latencies, 95):.0f} ms"
            text += f", {numbers.dropped - numbers.dropped_before} dropped"
            text += f", {numbers.people} in view" if self._people else ""
            text += self._rates_text(numbers.rates)
            texts.append(text)
            numbers.before, numbers.dropped_before = numbers.events, numbers.dropped
            numbers.latencies.clear()
        return f"last {seconds:.0f} s: {'; '.join(texts) or 'no events'}"

    def closing_lines(self) -> list[str]:
        """Return one line per source, for the end of a run."""
        now = self._clock()
        lines = []
        for name, numbers in self._sources.items():
            rate = numbers.events / max(now - self._start, 1e-9)
            line = f"{name}: {numbers.events} events ({rate:.1f}/s), {numbers.dropped} frames dropped"
            if numbers.losses:
                lost = numbers.lost_seconds + (0.0 if numbers.lost_at is None else now - numbers.lost_at)
                times = "once" if numbers.losses == 1 else f"{numbers.losses} times"
                line += f", lost {times} for {lost:.1f} s in all"
            lines.append(line + self._rates_text(numbers.rates))
        return lines

    def _rates_text(self, rates: Rates) -> str:
        text = "" if rates.detect_every is None else f", detected every {rates.detect_every:.2f} s"
        if rates.encode_every is None or not self._people:
            return text
        return text + f", each person encoded every {rates.encode_every:.2f} s"


def _status(line: StatusLine | None) -> str:
    if line is None or line.status == "live":
        return ""
    return f"{line.status} since {line.time:%H:%M:%S} UTC, "
