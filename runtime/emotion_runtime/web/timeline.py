"""Seconds by label in equal parts of time; the parts become longer as a run does."""

from dataclasses import dataclass, field

import msgspec

_PARTS = 360
NO_LABEL = ""


class TimelineView(msgspec.Struct, frozen=True, kw_only=True):
    """A timeline as it is sent.

    Attributes:
        part_seconds: Length of a part.
        first: Number of the first part, counted from the beginning of the session.
        parts: Person-seconds by label in each part; "" is time without a label.
    """

    part_seconds: float
    first: int
    parts: list[dict[str, float]]


@dataclass(slots=True)
class LiveTimeline:
    """Adds up seconds by label.

    Attributes:
        part: Length of a part in seconds; it doubles when there are more parts than are kept.
    """

    part: float = 1.0
    _parts: dict[int, dict[str, float]] = field(default_factory=dict)

    def add(self, at: float, label: str | None, seconds: float) -> None:
        """Add some seconds with a label.

        Args:
            at: Seconds since the session began; not decreasing.
            label: The label; None: there was none.
            seconds: How long.
        """
        part = self._parts.setdefault(int(at / self.part), {})
        name = NO_LABEL if label is None else label
        part[name] = part.get(name, 0.0) + seconds
        while max(self._parts) - min(self._parts) >= _PARTS:
            self._double()

    def _double(self) -> None:
        before, self._parts, self.part = self._parts, {}, 2 * self.part
        for index, labels in before.items():
            part = self._parts.setdefault(index // 2, {})
            for name, seconds in labels.items():
                part[name] = part.get(name, 0.0) + seconds

    def copied(self) -> "LiveTimeline":
        """Return a copy to which nothing is added. That is fast, since only the newest part changes."""
        parts = dict(self._parts)
        if parts:
            newest = next(reversed(parts))
            parts[newest] = dict(parts[newest])
        return LiveTimeline(self.part, parts)

    def view(self) -> TimelineView:
        """Return the timeline; parts in which nothing was added are empty."""
        if not self._parts:
            return TimelineView(part_seconds=self.part, first=0, parts=[])
        first, last = min(self._parts), max(self._parts)
        parts = [
            {name: round(seconds, 3) for name, seconds in self._parts.get(index, {}).items()}
            for index in range(first, last + 1)
        ]
        return TimelineView(part_seconds=self.part, first=first, parts=parts)
