"""Keep a person's latest embeddings and take clips for the temporal encoder from them.

A person is encoded once per frame; a new clip is only another selection of the stored embeddings.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError

# A frame that is early by this fraction of `every` counts as on time: cameras jitter, and 5 frames at 25
# frames per second are 0.2 s only up to rounding. Without it, every second encoding would be one frame late.
EARLY_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """How clips are taken from a person's embeddings.

    Attributes:
        frames: T, embeddings per clip.
        kept: Embeddings in a full ring, at least T.
        window: Seconds that a clip spans.
        every: Seconds between two embeddings of a person.
    """

    frames: int
    kept: int
    window: float
    every: float


def plan_clips(
    frames: int, seconds: float, *, window: float | None = None, every: float | None = None
) -> ClipPlan:
    """Return the plan for a model trained on clips of `frames` frames that span `seconds`.

    Args:
        frames: T, frames per clip.
        seconds: Time that the clips in training span.
        window: Seconds to span. None: `seconds`, or `every` times `frames` if that is longer.
        every: Seconds between embeddings. None: window / frames. A smaller value updates the prediction more
            often over the same window: a clip then takes every n-th embedding.

    Raises:
        EmotionError: A time is not positive, or `every` is too long to fill the window.
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
            f"every {every} s is too long for {frames} frames in a window of {window} s: "
            f"expected at most {window / frames:g} s, or a window of at least {every * frames:g} s"
        )
    return ClipPlan(frames, max(frames, round(window / every)), window, every)


class EmbeddingRing:
    """The latest embeddings of one person; the oldest is dropped first."""

    def __init__(self, plan: ClipPlan) -> None:
        self._plan = plan
        self._embeddings: deque[NDArray[np.float32]] = deque(maxlen=plan.kept)
        self._last = -np.inf

    @property
    def warming(self) -> bool:
        """Whether the ring is not full yet, so that a clip repeats its oldest embedding."""
        return len(self._embeddings) < self._plan.kept

    @property
    def filled(self) -> float:
        """Fraction of the ring that has embeddings, in [0, 1]."""
        return len(self._embeddings) / self._plan.kept

    def due(self, t: float) -> bool:
        """Return whether the person should be encoded at time t, in seconds."""
        # A time before the last one means that the source started over.
        return t < self._last or t - self._last >= self._plan.every * (1 - EARLY_TOLERANCE)

    def push(self, embedding: NDArray[np.float32], t: float) -> None:
        """Add the embedding (D,) of time t, in seconds.

        The ring starts over after a gap longer than the window and after a step back in time: a clip must not
        mix frames that are far apart.
        """
        if not 0 <= t - self._last <= self._plan.window:
            self._embeddings.clear()
        self._embeddings.append(embedding.copy())  # a view would keep its whole batch in memory
        self._last = t

    def clip(self) -> NDArray[np.float32]:
        """Return a clip (T, D) float32, oldest first, evenly spaced over the window.

        At least one embedding must have been pushed.
        """
        missing = self._plan.kept - len(self._embeddings)
        oldest_first = [self._embeddings[0]] * missing + list(self._embeddings)
        chosen = np.linspace(0, self._plan.kept - 1, self._plan.frames).round().astype(int)
        return np.stack([oldest_first[i] for i in chosen])
