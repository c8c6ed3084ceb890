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


def test_filling_clip_repeats_the_newest_embedding_then_slides():
    ring = EmbeddingRing(plan_clips(4, 0.8))
    seen = []
    for index in range(1, 7):
        ring.push(embedding(index), 0.2 * index)
        seen.append((values(ring), ring.warming, ring.filled))
    assert seen == [
        ([1, 1, 1, 1], True, 0.25),
        ([1, 2, 2, 2], True, 0.5),
        ([1, 2, 3, 3], False, 0.75),  # three embeddings are enough for a label
        ([1, 2, 3, 4], False, 1.0),
        ([2, 3, 4, 5], False, 1.0),
        ([3, 4, 5, 6], False, 1.0),
    ]


def spanned(rate: float, window: float, every: float | None = None) -> list[float]:
    """Return the times that full clips span at a frame rate, for a model with eight frames."""
    plan = plan_clips(8, 1.6, window=window, every=every)
    ring, spans = EmbeddingRing(plan), []
    for index in range(round(6 * window * rate)):
        t = index / rate
        if ring.due(t):
            ring.push(embedding(t), t, 1 / rate)
            if t > 2.5 * window:
                clip = values(ring)
                assert clip == sorted(clip)
                assert not ring.warming
                assert ring.filled == 1
                spans.append(clip[-1] - clip[0])
    return spans


@pytest.mark.parametrize("rate", [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 12.5, 15, 24, 25, 29.97, 30, 50, 60])
def test_clip_spans_the_window_at_any_frame_rate(rate: float):
    spans = spanned(rate, 1.6)
    assert min(spans) >= 1.4 - 0.01
    assert max(spans) <= 1.7


def test_clip_of_a_slow_source_spans_the_nearest_possible_time():
    assert set(spanned(1, 1.6)) == {1.0}  # a place 1.4 s ago is nearer to 1 s than to 2 s ago
    assert set(spanned(0.2, 1.6)) <= {0.0}  # each frame is a clip of its own


@pytest.mark.parametrize(("window", "every"), [(1.6, 0.1), (1.6, 0.05), (0.4, None), (0.8, 0.1), (4.0, 0.25)])
def test_window_and_interval_hold_as_asked(window: float, every: float | None):
    spans = spanned(25, window, every)
    assert min(spans) >= window * 7 / 8 - 0.01
    assert max(spans) <= window * 1.7 / 1.6


@pytest.mark.parametrize("every", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("rate", [12, 24, 25, 30, 60])
def test_encodings_are_as_frequent_as_asked(rate: float, every: float):
    ring = EmbeddingRing(plan_clips(8, 1.6, every=every))
    encoded = 0
    for index in range(20 * rate):
        if ring.due(index / rate):
            ring.push(embedding(0), index / rate)
            encoded += 1
    assert encoded == pytest.approx(20 / max(every, 1 / rate), rel=0.03)


def test_ring_keeps_no_more_than_it_needs():
    ring = EmbeddingRing(plan_clips(8, 1.6, every=0.04))
    for index in range(1000):
        ring.push(embedding(index), index / 25)
    assert len(ring.recent(1000)) <= 1.4 * 25 + 2


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
    assert not ring.warming
    assert values(ring) == [4, 4, 5, 5]  # the nearest to each place
    ring.push(embedding(6), 1.55 + 0.85)
    assert values(ring) == [6, 6, 6, 6]
    assert ring.warming


@pytest.mark.parametrize("interval", [1.0, 2.0, 5.0, 10.0])
def test_people_of_a_slow_source_have_a_label_from_the_second_frame_on(interval: float):
    ring = EmbeddingRing(plan_clips(4, 0.8))
    warming = []
    for index in range(4):
        ring.push(embedding(index), interval * index, interval)
        warming.append(ring.warming)
    assert warming == [True, False, False, False]
    ring.push(embedding(9), interval * 3 + 4 * interval, interval)
    assert values(ring) == [9, 9, 9, 9]  # four intervals without this person are a gap
    assert ring.warming


def test_step_back_in_time_restarts_the_ring():
    ring = EmbeddingRing(plan_clips(4, 0.8))
    ring.push(embedding(1), 100.0)
    assert ring.due(0.0)
    ring.push(embedding(2), 0.0)
    assert values(ring) == [2, 2, 2, 2]


def test_more_frequent_encoding_takes_every_nth_embedding():
    ring = EmbeddingRing(plan_clips(4, 0.8, every=0.05))
    for index in range(20):
        ring.push(embedding(index), 0.05 * index)
    assert values(ring) == [7, 11, 15, 19]  # 0.2 s apart, as in training


def test_defaults_of_the_plan():
    plan = plan_clips(8, 1.6)
    assert (plan.window, plan.every, plan.step) == (1.6, pytest.approx(0.2), pytest.approx(0.2))
    assert plan_clips(8, 1.6, window=4.0).every == 0.5
    # Only `every` is given: the window is a default, so it grows.
    assert plan_clips(8, 1.6, every=0.5).window == 4.0


def test_window_that_cannot_be_filled_is_rejected():
    with pytest.raises(
        EmotionError, match=r"every 0.5 s is too long.*at most 0.2 s, or a window of at least 4 s"
    ):
        plan_clips(8, 1.6, window=1.6, every=0.5)


@pytest.mark.parametrize("value", [0.0, -1.0, 3601.0, 1e25, float("nan"), float("inf")])
def test_times_must_be_positive_and_at_most_an_hour(value: float):
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
