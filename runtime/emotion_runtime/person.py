"""The state of one person over time: embeddings, smoothed values, the shown label."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.heads import LinearHead
from emotion_runtime.quality import why_not
from emotion_runtime.ring import ClipPlan, EmbeddingRing
from emotion_runtime.smoothing import ExponentialAverage, LabelHysteresis
from emotion_runtime.types import Person, Quality, State, Track, Why

# A prediction that is older than this is no longer shown, unless the source itself gives frames as rarely.
STALE_SECONDS, STALE_INTERVALS = 0.8, 2.0


@dataclass(frozen=True, slots=True)
class PersonOptions:
    """How the values of a person are computed and shown.

    Attributes:
        clips: How clips are taken from the embeddings.
        smoothing: See `smoothing.ExponentialAverage`.
        hysteresis: See `smoothing.LabelHysteresis`.
        head: Predicts emotions.
        affect: Predicts valence, arousal or dominance. None: there is no such head.
    """

    clips: ClipPlan
    smoothing: float
    hysteresis: float
    head: LinearHead
    affect: LinearHead | None = None


class PersonState:
    """What is known of one person; the values are None until the first encoding.

    Args:
        options: How the values are computed and shown.
        still: The person is in a photo: the only embedding fills the clip, and nothing is smoothed.

    Attributes:
        ring: The latest embeddings.
        quality: How well the head could be seen at the latest encoding.
    """

    def __init__(self, options: PersonOptions, *, still: bool = False) -> None:
        self._options = options
        self._still = still
        self.ring = EmbeddingRing(options.clips)
        self.quality: Quality | None = None
        self._emotion_average = ExponentialAverage(options.smoothing)
        self._affect_average = ExponentialAverage(options.smoothing)
        self._label = LabelHysteresis(0.0 if still else options.hysteresis, abstain=options.head.abstain)
        self._raw: NDArray[np.float64] | None = None
        self._smoothed: NDArray[np.float64] | None = None
        self._affect: NDArray[np.float64] | None = None

    def predict(
        self, probabilities: NDArray[np.float64], affect: NDArray[np.float64] | None, t: float
    ) -> None:
        """Take over the predictions (C,) and (V,) of the latest clip, at time t in seconds."""
        self._raw = probabilities
        self._smoothed = self._emotion_average.update(probabilities, t)
        self._label.update(self._smoothed, t)
        if affect is not None:
            self._affect = self._affect_average.update(affect, t)

    def publish(self, track: Track, t: float, interval: float) -> Person:
        """Return the person as it is published.

        Args:
            track: The person's track.
            t: Time of the frame, in seconds.
            interval: Usual time between two frames of the source, in seconds.
        """
        stale = t - self.ring.latest > max(STALE_SECONDS, STALE_INTERVALS * interval)
        label = self._label.label
        why = self._why(track, stale=stale)
        shown = why is None and label is not None
        return Person(
            id=track.id,
            box=track.box,
            score=track.score,
            state=self._state(track),
            top=self._options.head.labels[label] if shown and label is not None else None,
            why=why,
            emotions=_by_label(self._options.head, self._smoothed),
            raw=_by_label(self._options.head, self._raw),
            quality=self.quality,
            filled=1.0 if self._still else self.ring.filled,
            **_by_label(self._options.affect, self._affect),
        )

    def _state(self, track: Track) -> State:
        if self._still:
            return "photo"
        if not track.seen:
            return "lost"
        if not track.confirmed:
            return "new"
        return "warming" if self.ring.warming else "steady"

    def _why(self, track: Track, *, stale: bool) -> Why | None:
        """Return why there is no label; None if there is one."""
        if self._smoothed is None:
            return "warming"
        if stale:
            return "stale"
        poor = why_not(self.quality) if self.quality else None
        if poor:
            return poor
        if not self._still and (not track.confirmed or self.ring.warming):
            return "warming"
        return "uncertain" if self._label.label is None else None


def _by_label(head: LinearHead | None, values: NDArray[np.float64] | None) -> dict[str, float]:
    """Return a head's values by label; empty without a head, and until a person was encoded."""
    if head is None or values is None:
        return {}
    return dict(zip(head.labels, values.tolist(), strict=True))
