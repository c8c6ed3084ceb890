"""Metrics in the format of Prometheus. Labels are the names of sources and stages, never people."""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from emotion_runtime.types import WATCHING, EmotionEvent, SourceStatus, StatusLine

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5)
_STAGE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_OF_FRAMES = ("read", "detect", "sinks")  # stages that every frame goes through, also if nobody is in view
_SOURCES = 64  # series; further sources, such as the photos of a folder, count together
_OTHERS = "other sources"
_STATUSES: tuple[SourceStatus, ...] = (
    "connecting",
    "live",
    "degraded",
    "frozen",
    "lost",
    "paused",
    "ended",
)


class Metrics:
    """Counts for `/metrics`."""

    def __init__(self, version: str) -> None:
        self._registry = CollectorRegistry()
        labels = ["source"]
        own: Any = {"registry": self._registry}
        Gauge("emotion_info", "Version of the program.", ["version"], **own).labels(version).set(1)
        self._latency = Histogram(
            "emotion_capture_to_event_seconds",
            "Time from the capture of a frame to its event, of live sources.",
            labels,
            buckets=_BUCKETS,
            **own,
        )
        self._stages = Histogram(
            "emotion_stage_seconds",
            "Time that a step of the run spends in each stage.",
            ["stage"],
            buckets=_STAGE_BUCKETS,
            **own,
        )
        self._frames = Counter("emotion_frames", "Frames processed.", labels, **own)
        self._dropped = Counter("emotion_dropped_frames", "Frames dropped.", labels, **own)
        self._reconnects = Counter(
            "emotion_reconnects", "How often a source was live again after it was lost.", labels, **own
        )
        self._people = Gauge("emotion_people", "People in view.", labels, **own)
        self._status = Gauge(
            "emotion_source_status", "1 for the present status of a source.", ["source", "status"], **own
        )
        self._viewers = Gauge("emotion_viewers", "Viewers of live images and events.", **own)
        self._names: set[str] = set()
        self._drops: dict[str, int] = {}
        self._spent: dict[str, float] = {}
        self._was_lost: set[str] = set()
        self._with_people: set[str] = set()

    def add(self, event: EmotionEvent, *, people: bool = True) -> None:
        """Count an event, and the people in it if they may be published."""
        name = self._name(event.source)
        self._frames.labels(name).inc()
        before = self._drops.get(event.source, 0)
        if name != _OTHERS:
            # A source that was opened anew counts from 0.
            self._dropped.labels(name).inc(
                event.dropped - before if event.dropped >= before else event.dropped
            )
            self._drops[event.source] = event.dropped
        if people:
            self._with_people.add(name)
            self._people.labels(name).set(sum(person.state != "lost" for person in event.persons))
        if event.latency_ms > 0:
            self._latency.labels(name).observe(event.latency_ms / 1000)

    def add_stages(self, seconds: Mapping[str, float], *, people: bool = True) -> None:
        """Take the time spent in each stage since the beginning, after a step of the run.

        Args:
            seconds: The time by stage.
            people: Whether people may be published. False: stages that only people go through are left out,
                since each step that is counted there would say that somebody is in view.
        """
        for stage, total in seconds.items():
            spent = total - self._spent.get(stage, 0.0)
            if spent > 0 and (people or stage in _OF_FRAMES):
                self._stages.labels(stage).observe(spent)
                self._spent[stage] = total

    def add_status(self, line: StatusLine) -> None:
        """Take note of a change of the status of a source."""
        name = self._name(line.source)
        if line.status == "lost":
            self._was_lost.add(name)
        elif line.status == "live" and name in self._was_lost:
            self._was_lost.discard(name)
            self._reconnects.labels(name).inc()
        if line.status not in WATCHING:
            self._forget_people(name)
        for status in _STATUSES:
            self._status.labels(name, status).set(status == line.status)

    def drop(self, source: str) -> None:
        """Forget what is so now of a source that was removed; what was counted stays."""
        name = self._name(source)
        self._forget_people(name)
        for status in _STATUSES:
            self._status.labels(name, status).set(0)

    def _forget_people(self, name: str) -> None:
        """Set the number of people to 0 where it was ever published."""
        if name in self._with_people:
            self._people.labels(name).set(0)

    def set_viewers(self, count: int) -> None:
        """Take note of the number of viewers."""
        self._viewers.set(count)

    def text(self) -> bytes:
        """Return all metrics."""
        text: bytes = generate_latest(self._registry)
        return text

    def _name(self, source: str) -> str:
        if source not in self._names:
            if len(self._names) >= _SOURCES:
                return _OTHERS
            self._names.add(source)
        return source.encode("utf-8", "replace").decode()
