"""Keep a person's latest embeddings and take clips for the temporal encoder from them.

A person is encoded once per frame; a new clip is only another selection of the stored embeddings.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError

# A frame that is early by this fraction of `every` counts as on time: cameras jitter, and 5 frames at 25
# frames per second are 0.2 s only up to rounding. Without it, every second encoding would be one frame late.
EARLY_TOLERANCE = 0.05
# A person has a label once there are as many embeddings, or once they span as long as so many do at the
# usual rate: the first ones are often of a head that is only half in view.
ENOUGH = 3
# An embedding that is older than its place in the clip by more than this many steps is too old for it.
_TOO_OLD = 1.5
# A gap longer than the window and than this many intervals of the source starts the ring anew.
_GAP_INTERVALS = 2.5
_LONGEST = 3600.0  # seconds of a window: nobody would get a label before it has gone on for a while


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """How clips are taken from a person's embeddings.

    Attributes:
        frames: T, embeddings per clip.
        window: Seconds that a clip spans: T steps of window / T.
        every: Seconds between two embeddings of a person.
    """

    frames: int
    window: float
    every: float

    @property
    def step(self) -> float:
        """Seconds between two embeddings of a clip."""
        return self.window / self.frames


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
        if value is not None and not 0 < value <= _LONGEST:
            raise EmotionError(f"{name} {value}: expected seconds, more than 0 and at most {_LONGEST:g}")
    if window is None:
        window = max(seconds, (every or 0) * frames)
    if every is None:
        every = window / frames
    if every * frames > window * (1 + 1e-9):
        raise EmotionError(
            f"every {every} s is too long for {frames} frames in a window of {window} s: "
            f"expected at most {window / frames:g} s, or a window of at least {every * frames:g} s"
        )
    return ClipPlan(frames, window, every)


class EmbeddingRing:
    """The latest embeddings of one person with their times; those too old for a clip are dropped."""

    def __init__(self, plan: ClipPlan) -> None:
        self._plan = plan
        self._kept: deque[tuple[float, NDArray[np.float32]]] = deque()
        self._first = math.inf  # time of the first embedding since the ring started
        self._next_due = -math.inf
        self._chosen: list[int] = []  # the embeddings of a clip that exist, oldest first: at most T

    @property
    def latest(self) -> float:
        """Time of the newest embedding, in seconds; minus infinity if there is none."""
        return self._kept[-1][0] if self._kept else -math.inf

    @property
    def warming(self) -> bool:
        """Whether there are too few embeddings for a label."""
        enough = (min(ENOUGH, self._plan.frames) - 1) * self._plan.every
        return not self._kept or self.latest - self._first < enough - self._tolerance

    @property
    def filled(self) -> float:
        """Fraction of a clip for which there are embeddings, in [0, 1]."""
        return len(self._chosen) / self._plan.frames

    def recent(self, count: int) -> list[NDArray[np.float32]]:
        """Return up to `count` newest embeddings (D,), oldest first."""
        return [embedding for _, embedding in list(self._kept)[-count:]]

    def due(self, t: float, every: float = 0.0) -> bool:
        """Return whether the person should be encoded at time t, in seconds.

        Args:
            t: The time.
            every: Least time since the latest encoding, if there is no time for more encodings.
        """
        # A time before the last one means that the source started over.
        if t < self.latest:
            return True
        if every > self._plan.every:
            return t - self.latest >= every * (1 - EARLY_TOLERANCE)
        return t >= self._next_due - self._tolerance

    def push(self, embedding: NDArray[np.float32], t: float, interval: float = 0.0) -> None:
        """Add the embedding (D,) of time t, in seconds.

        The ring starts over after a step back in time and after a gap longer than the window: a clip must not
        mix frames that are far apart.

        Args:
            embedding: The embedding, which is copied.
            t: Its time.
            interval: Usual time between two frames of the source. A gap that is no longer than a few of them
                does not start the ring over, so that a slow source has clips of more than one frame.
        """
        if not 0 <= t - self.latest <= max(self._plan.window, _GAP_INTERVALS * interval):
            self._kept.clear()
            self._first = t
            self._next_due = -math.inf
        self._kept.append((t, embedding.copy()))  # a view would keep its whole batch in memory
        # The times stay on a grid, so that the mean rate is the one asked for whatever the frame rate is.
        self._next_due += self._plan.every
        if not t < self._next_due:
            self._next_due = t + self._plan.every
        oldest = self._plan.step * (self._plan.frames - 1) - self._tolerance
        while len(self._kept) > 1 and t - self._kept[1][0] >= oldest:
            self._kept.popleft()
        self._chosen = self._choose()  # here and not where it is read, which every frame does

    def clip(self) -> NDArray[np.float32]:
        """Return a clip (T, D) float32, oldest first, evenly spaced over the window as far as possible.

        While the embeddings do not span the window, the newest one is repeated at the end. At least one
        embedding must have been pushed.
        """
        missing = self._plan.frames - len(self._chosen)
        return np.stack([self._kept[i][1] for i in self._chosen] + [self._kept[-1][1]] * missing)

    @property
    def _tolerance(self) -> float:
        return EARLY_TOLERANCE * self._plan.every

    def _choose(self) -> list[int]:
        now = self.latest
        ages = [now - t for t, _ in self._kept]  # descending
        places = (self._plan.step * i for i in range(self._plan.frames - 1, -1, -1))
        return [self._place(ages, age) for age in places if age <= ages[0] + self._tolerance]

    def _place(self, ages: Sequence[float], wanted: float) -> int:
        """Return the newest embedding that is old enough, or the nearest one if that one is far too old."""
        old_enough = max(i for i, age in enumerate(ages) if age >= wanted - self._tolerance)
        if ages[old_enough] - wanted <= _TOO_OLD * self._plan.step:
            return old_enough
        return min(range(len(ages)), key=lambda i: abs(ages[i] - wanted))
