"""What is known of one camera, as it is published over MQTT: numbers of all people together, and no ids."""

import re
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any

import numpy as np

from emotion_runtime.types import WATCHING, EmotionEvent, SourceStatus, StatusLine

_SPAN = 10.0  # seconds over which rate and latency are measured
_EVENTS = 1000  # of these seconds, at most
_CONNECTED = ("live", "degraded", "frozen")


def topic_level(name: str) -> str:
    """Return the name of a source as one level of a topic, of letters, digits, _ and -.

    Names with other characters get an ending that keeps them apart.
    """
    level = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if level == name and name:
        return name
    return f"{level[:60]}-{sha256(name.encode(errors='backslashreplace')).hexdigest()[:6]}"


class MqttCamera:
    """Collects events and changes of status of one camera.

    Args:
        name: Name of the source.
        labels: Names of the emotions that the head predicts.
        clock: Returns seconds; monotonic.
        people: Whether people are told. False: events come without them.

    Attributes:
        paused: The camera was paused by a command, or says itself that it is paused.
    """

    def __init__(
        self,
        name: str,
        labels: tuple[str, ...],
        clock: Callable[[], float] = time.monotonic,
        *,
        people: bool = True,
    ) -> None:
        self._people_known = people
        self._name = name
        self._labels = labels
        self._clock = clock
        self._since = clock()
        self._latencies: deque[tuple[float, float]] = deque(maxlen=_EVENTS)  # with the time of the event
        self._event: EmotionEvent | None = None
        self._status: SourceStatus | None = None
        self.paused = False

    def add(self, event: EmotionEvent) -> None:
        """Take the newest event."""
        self._event = event
        self._latencies.append((self._clock(), event.latency_ms))
        if self._status in (None, "ended"):  # a file that is played in real time has no status
            self._status = "live"

    def add_status(self, line: StatusLine) -> None:
        """Take a change of status."""
        self._status = line.status
        self.paused = line.status == "paused"
        if line.status == "ended":
            self._latencies.clear()

    @property
    def status(self) -> str | None:
        """The latest status. None: nothing is known yet."""
        return "paused" if self.paused else self._status

    @property
    def content(self) -> object:
        """What is worth telling at once when it changes."""
        return self.status, self._people(), self._label()

    def values(self) -> dict[str, Any]:
        """Return the state as JSON-ready values; None stands for what is not known at present."""
        now = self._clock()
        while self._latencies and now - self._latencies[0][0] > _SPAN:
            self._latencies.popleft()
        latencies = [latency for _, latency in self._latencies]
        return {
            "source": self._name,
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "status": self.status,
            "connected": None if self.status in (None, "paused") else self.status in _CONNECTED,
            "paused": self.paused,
            "people": self._people(),
            "label": self._label(),
            "shares": self._shares(),
            "fps": round(len(latencies) / min(max(now - self._since, 1.0), _SPAN), 1),
            "latency_p95_ms": round(float(np.percentile(latencies, 95)), 1) if latencies else None,
            "dropped": self._event.dropped if self._event else 0,
        }

    def _people(self) -> int | None:
        """Return the number of people in view; those found only once are mostly false detections."""
        if self._event is None or not self._people_known or self.status not in WATCHING:
            return None
        return sum(person.state not in ("new", "lost") for person in self._event.persons)

    def _label(self) -> str | None:
        """Return the label that most people have; of equal ones, that with the larger share."""
        if self._event is None or not self._people_known or self.status not in WATCHING:
            return None
        counts = Counter(person.top for person in self._event.persons if person.top is not None)
        shares = self._shares()
        return max(counts, key=lambda label: (counts[label], shares.get(label) or 0), default=None)

    def _shares(self) -> dict[str, float | None]:
        """Return the mean probability of each label in percent, over the people who have a label."""
        shares: dict[str, float | None] = dict.fromkeys(self._labels)
        if self._event is None or not self._people_known or self.status not in WATCHING:
            return shares
        labelled = [person.emotions for person in self._event.persons if person.top is not None]
        for label in shares if labelled else ():
            shares[label] = round(100 * sum(each.get(label, 0.0) for each in labelled) / len(labelled), 1)
        return shares
