"""A person's last embeddings, from which the temporal encoder's clips are made.

Every frame of a person is encoded once; a clip is only another choice among the kept embeddings.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError

# A frame this much of `every` too early is on time: cameras jitter, and 5 frames of 25 per second are
# 0.2 s only up to rounding. Without it, every second beat would come a frame late.
EARLY = 0.05


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """How clips are made.

    frames: T, embeddings of a clip. kept: embeddings in a full ring, >= T. window: seconds that a clip spans.
    every: seconds between two embeddings of a person.
    """

    frames: int
    kept: int
    window: float
    every: float


def plan_clips(
    frames: int, seconds: float, *, window: float | None = None, every: float | None = None
) -> ClipPlan:
    """The plan for a model trained on clips of `frames` frames that span `seconds`.

    window: seconds to span; None: `seconds`, or what `every` makes of it where that is longer.
    every: seconds between embeddings; None: window / frames. A shorter one refreshes the answer more often
    over the same window: the clip then takes every n-th embedding.

    Raises:
        EmotionError: a time that is not positive, or an `every` too long to fill the window.

    """
    for name, value in (("window", window), ("every", every)):
        if value is not None and not 0 < value < float("inf"):
            raise EmotionError(f"{name} {value}: expected seconds, more than 0")
    if window is None:
        window = max(seconds, (every or 0) * frames)
    if every is None:
        every = window / frames
    if every * frames > window * (1 + 1e-9):
        raise EmotionError(
            f"every {every} s is too seldom for {frames} frames in a window of {window} s: "
            f"at most {window / frames:g}, or a window of at least {every * frames:g}"
        )
    return ClipPlan(frames, max(frames, round(window / every)), window, every)


class EmbeddingRing:
    """The embeddings of one person, oldest dropped first."""

    def __init__(self, plan: ClipPlan) -> None:
        self._plan = plan
        self._embeddings: deque[NDArray[np.float32]] = deque(maxlen=plan.kept)
        self._last = -np.inf

    @property
    def warming(self) -> bool:
        """The ring is not full, so a clip repeats its oldest embedding."""
        return len(self._embeddings) < self._plan.kept

    def due(self, t: float) -> bool:
        """Whether the person should be encoded at time t, seconds."""
        # A time before the last one is a source that started over.
        return t < self._last or t - self._last >= self._plan.every * (1 - EARLY)

    def push(self, embedding: NDArray[np.float32], t: float) -> None:
        """Add the embedding (D,) of time t, seconds.

        After a gap longer than the window, or a step back, the ring starts over: a clip must not mix
        moments that lie far apart.
        """
        if not 0 <= t - self._last <= self._plan.window:
            self._embeddings.clear()
        self._embeddings.append(embedding.copy())  # a row would keep its whole batch alive
        self._last = t

    def clip(self) -> NDArray[np.float32]:
        """(T, D) float32, oldest first, evenly over the window; at least one embedding was pushed."""
        missing = self._plan.kept - len(self._embeddings)
        oldest_first = [self._embeddings[0]] * missing + list(self._embeddings)
        chosen = np.linspace(0, self._plan.kept - 1, self._plan.frames).round().astype(int)
        return np.stack([oldest_first[i] for i in chosen])
