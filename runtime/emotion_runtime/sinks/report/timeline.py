"""Seconds over time, in a bounded number of bins."""

from collections.abc import Iterator

BINS = 240
_FINEST = 1 / 16  # seconds


class Timeline:
    """Seconds by key, in at most `BINS` bins of equal width, which doubles when time goes on.

    Attributes:
        width: Seconds of a bin.
    """

    __slots__ = ("_bins", "width")

    def __init__(self) -> None:
        self.width = _FINEST
        self._bins: dict[int, dict[str, float]] = {}

    def add(self, key: str, begin: float, seconds: float) -> None:
        """Add a stretch of time.

        Args:
            key: What happened, for example a label.
            begin: Media time in seconds; negative times count as 0.
            seconds: How long it lasted.
        """
        begin = max(begin, 0.0)
        end = begin + seconds
        self.widen(end)
        for index in range(int(begin / self.width), min(int(end / self.width), BINS - 1) + 1):
            overlap = min(end, (index + 1) * self.width) - max(begin, index * self.width)
            if overlap > 0:
                spent = self._bins.setdefault(index, {})
                spent[key] = spent.get(key, 0.0) + overlap

    def widen(self, end: float) -> None:
        """Make the bins wide enough for times up to `end`."""
        factor = 1
        while end > self.width * BINS:
            self.width *= 2
            factor *= 2
        if factor == 1:
            return
        before, self._bins = self._bins, {}
        for index, spent in before.items():
            merged = self._bins.setdefault(index // factor, {})
            for key, seconds in spent.items():
                merged[key] = merged.get(key, 0.0) + seconds

    def bins(self) -> Iterator[tuple[float, dict[str, float]]]:
        """Yield the bins that are not empty, in order: where each begins, in seconds, and seconds by key."""
        for index in sorted(self._bins):
            yield index * self.width, self._bins[index]
