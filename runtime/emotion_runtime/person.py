"""The state of one person over time: embeddings, smoothed values, the shown label."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.heads import LinearHead
from emotion_runtime.manifest import DEFAULT_QUALITY, QualityLimits, SwapLimits
from emotion_runtime.quality import why_not
from emotion_runtime.ring import ClipPlan, EmbeddingRing
from emotion_runtime.smoothing import ExponentialAverage, LabelHysteresis
from emotion_runtime.swaps import (
    COMPARED,
    CROWDED_SECONDS,
    GAP_SECONDS,
    LOOK_SECONDS,
    is_swap,
    look,
    looks_different,
    similarity,
)
from emotion_runtime.types import Box, Person, Quality, State, Track, Why

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
        limits: The least quality with which a person gets a label.
    """

    clips: ClipPlan
    smoothing: float
    hysteresis: float
    head: LinearHead
    affect: LinearHead | None = None
    limits: QualityLimits = DEFAULT_QUALITY


class PersonState:
    """What is known of one person; the values are None until the first encoding.

    Args:
        options: How the values are computed and shown.
        still: The person is in a photo: the only embedding fills the clip, and nothing is smoothed.

    Attributes:
        ring: The latest embeddings.
        quality: How well the head could be seen at the latest encoding.
        looks_different: Since the latest encoding, the head changed its look from one frame to the next.
        unseen: Longest time in seconds for which the person was not seen since then.
        appeared_at: Time at which the person was first seen.
        crowded_at: Latest time at which somebody else's box overlapped: the head may have been hidden.
    """

    def __init__(self, options: PersonOptions, *, still: bool = False) -> None:
        self._options = options
        self._still = still
        self.ring = EmbeddingRing(options.clips)
        self.quality: Quality | None = None
        self.looks_different = False
        self.unseen = 0.0
        self.appeared_at = np.inf
        self.crowded_at = -np.inf
        self._look: NDArray[np.float32] | None = None
        self._seen_at = -np.inf
        self._emotion_average = ExponentialAverage(options.smoothing)
        self._affect_average = ExponentialAverage(options.smoothing)
        self._label = LabelHysteresis(0.0 if still else options.hysteresis, abstain=options.head.abstain)
        self._raw: NDArray[np.float64] | None = None
        self._smoothed: NDArray[np.float64] | None = None
        self._affect: NDArray[np.float64] | None = None

    def see(self, image_bgr: NDArray[np.uint8], box: Box, t: float) -> None:
        """Compare the look of the head with that in the frame before, at time t in seconds."""
        now = look(image_bgr, box)
        elapsed = t - self._seen_at
        if self._look is not None and now is not None and elapsed <= LOOK_SECONDS:
            self.looks_different |= looks_different(self._look, now)
        if np.isfinite(elapsed):
            self.unseen = max(self.unseen, elapsed)
        self.appeared_at = min(self.appeared_at, t)
        self._look, self._seen_at = now, t

    def swapped(self, embedding: NDArray[np.float32], limits: SwapLimits, interval: float) -> bool:
        """Return whether an embedding (D,) of the latest frame is of another person than the ones before it.

        It never is while people pass each other: then a head is partly hidden, which looks like another one.

        Args:
            embedding: The new embedding.
            limits: The bundle's limits.
            interval: Usual time between two detections, in seconds.
        """
        cosine = similarity(embedding, self.ring.recent(COMPARED))
        gap = self.unseen > max(GAP_SECONDS, 1.5 * interval)
        crowded = self._seen_at - self.crowded_at <= CROWDED_SECONDS
        return not crowded and is_swap(cosine, limits, suspicious=self.looks_different or gap)

    def push(self, embedding: NDArray[np.float32], t: float, interval: float) -> None:
        """Add an embedding (D,) of this person, see `EmbeddingRing.push`: nothing is suspicious now."""
        self.looks_different, self.unseen = False, 0.0
        self.ring.push(embedding, t, interval)

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
            interval: Usual time between two frames of the source, or two encodings if that is longer, in
                seconds.
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
        poor = why_not(self.quality, self._options.limits) if self.quality else None
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
