"""The ring keeps the latest embeddings of a person, and tells when the next one is due."""

import numpy as np
import pytest

from emotion_runtime.errors import EmotionError
from emotion_runtime.ring import EmbeddingRing, plan_clips


def embedding(value: float) -> np.ndarray:
    return np.full(3, value, np.float32)


def values(ring: EmbeddingRing) -> list[float]:
    clip = ring.clip()
    assert clip.shape[1] == 3
    assert clip.dtype == np.float32
    return clip[:, 0].tolist()


def test_warming_clip_repeats_the_oldest_embedding_then_slides():
    ring = EmbeddingRing(plan_clips(4, 0.8))
    seen = []
    for index in range(1, 7):
        ring.push(embedding(index), 0.2 * index)
        seen.append((values(ring), ring.warming))
    assert seen == [
        ([1, 1, 1, 1], True),
        ([1, 1, 1, 2], True),
        ([1, 1, 2, 3], True),
        ([1, 2, 3, 4], False),
        ([2, 3, 4, 5], False),
        ([3, 4, 5, 6], False),
    ]


@pytest.mark.parametrize(("rate", "every", "frames_between"), [(25, 0.2, 5), (30, 0.2, 6), (10, 0.3, 3)])
def test_frames_are_due_at_regular_intervals_despite_rounding(rate: int, every: float, frames_between: int):
    ring = EmbeddingRing(plan_clips(4, 4 * every))
    encoded = []
    for index in range(300):
        # Files round presentation times to milliseconds, up or down.
        t = round(index / rate, 3)
        if ring.due(t):
            ring.push(embedding(0), t)
            encoded.append(index)
    assert encoded == list(range(0, 300, frames_between))


def test_early_frame_is_not_due():
    ring = EmbeddingRing(plan_clips(4, 0.8))
    assert ring.due(5.0)
    ring.push(embedding(1), 5.0)
    assert not ring.due(5.0)
    assert not ring.due(5.16)
    assert ring.due(5.2)


def test_gap_longer_than_the_window_restarts_the_ring():
    ring = EmbeddingRing(plan_clips(4, 0.8))
    for index in range(1, 5):
        ring.push(embedding(index), 0.2 * index)
    ring.push(embedding(5), 0.8 + 0.75)
    assert values(ring) == [2, 3, 4, 5]
    ring.push(embedding(6), 1.55 + 0.85)
    assert values(ring) == [6, 6, 6, 6]
    assert ring.warming


def test_step_back_in_time_restarts_the_ring():
    ring = EmbeddingRing(plan_clips(4, 0.8))
    ring.push(embedding(1), 100.0)
    assert ring.due(0.0)
    ring.push(embedding(2), 0.0)
    assert values(ring) == [2, 2, 2, 2]


def test_more_frequent_encoding_spans_the_same_window():
    plan = plan_clips(4, 0.8, every=0.05)
    ring = EmbeddingRing(plan)
    for index in range(16):
        ring.push(embedding(index), 0.05 * index)
        assert ring.warming == (index < 15)
    assert values(ring) == [0, 5, 10, 15]  # evenly from the oldest to the newest


def test_defaults_of_the_plan():
    plan = plan_clips(8, 1.6)
    assert (plan.window, plan.every, plan.kept) == (1.6, pytest.approx(0.2), 8)
    assert plan_clips(8, 1.6, window=4.0).every == 0.5
    # Only `every` is given: the window is a default, so it grows.
    assert plan_clips(8, 1.6, every=0.5).window == 4.0


def test_window_that_cannot_be_filled_is_rejected():
    with pytest.raises(
        EmotionError, match=r"every 0.5 s is too long.*at most 0.2 s, or a window of at least 4 s"
    ):
        plan_clips(8, 1.6, window=1.6, every=0.5)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_times_must_be_positive_and_finite(value: float):
    with pytest.raises(EmotionError, match="window"):
        plan_clips(8, 1.6, window=value)
    with pytest.raises(EmotionError, match="every"):
        plan_clips(8, 1.6, every=value)


def test_ring_copies_its_embeddings():
    ring = EmbeddingRing(plan_clips(4, 0.8))
    batch = np.ones((2, 3), np.float32)
    ring.push(batch[0], 0.0)
    batch[:] = 7
    assert values(ring) == [1, 1, 1, 1]
