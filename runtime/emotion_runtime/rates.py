"""How often the people of a source were really detected and encoded."""

from collections import deque
from dataclasses import dataclass

_DETECTIONS, _ENCODINGS = 20, 200  # latest times that count


@dataclass(frozen=True, slots=True)
class Rates:
    """How often people of one source were detected and encoded lately.

    Attributes:
        detect_every: Mean time between two detections in seconds. None: there were fewer than two.
        encode_every: Mean time between two encodings of a person in seconds. None: nobody was encoded twice.
        longest_wait: Longest of these times between two encodings, in seconds. None: as above.
    """

    detect_every: float | None = None
    encode_every: float | None = None
    longest_wait: float | None = None


class RateMeter:
    """Measures the rates of one source from the latest detections and encodings."""

    def __init__(self) -> None:
        self._detected: deque[float] = deque(maxlen=_DETECTIONS)
        self._waits: deque[float] = deque(maxlen=_ENCODINGS)

    def detected(self, t: float) -> None:
        """Count a detection at time t, in seconds."""
        if self._detected and t < self._detected[-1]:
            self._detected.clear()  # the source started over
        self._detected.append(t)

    def encoded(self, wait: float) -> None:
        """Count an encoding of a person, this many seconds after the one before."""
        self._waits.append(wait)

    def rates(self) -> Rates:
        """Return the rates; may be called by another thread."""
        detected, waits = list(self._detected), list(self._waits)
        gaps = len(detected) - 1
        return Rates(
            (detected[-1] - detected[0]) / gaps if gaps > 0 else None,
            sum(waits) / len(waits) if waits else None,
            max(waits, default=None),
        )
