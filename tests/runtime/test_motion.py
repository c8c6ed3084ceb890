"""Where people are expected between two detections: the motion of a box, and the boxes of a source."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emotion_runtime import motion
from emotion_runtime.bundle import load_bundle
from emotion_runtime.heads import load_head
from emotion_runtime.person import PersonOptions
from emotion_runtime.ring import plan_clips
from emotion_runtime.source_state import SourceState
from emotion_runtime.types import Box, Detections, Frame, Track

HEAD, RATE = 38, 25  # width of a head in pixels, frames per second


def test_a_box_moves_on_and_slows_down() -> None:
    rates = motion.measured((100, 50, 140, 100), (110, 50, 150, 100), 0.1, None)  # 100 pixels per second
    track = Track(1, (110, 50, 150, 100), 0.9)
    assert motion.predicted(track, rates, 0.0).box == pytest.approx(track.box)
    assert motion.predicted(track, rates, 0.1).box[0] == pytest.approx(120, abs=0.5)
    assert 150 < motion.predicted(track, rates, 0.5).box[0] < 160
    furthest = motion.predicted(track, rates, 1e9).box
    assert furthest[0] == pytest.approx(110 + 100 * motion.COAST_SECONDS)
    assert furthest[2] - furthest[0] == pytest.approx(40)


def test_head_and_landmarks_move_and_grow_with_the_box() -> None:
    rates = motion.measured((100, 100, 140, 140), (99, 98, 143, 142), 0.1, None)  # 40 and 44 pixels wide
    track = Track(1, (99, 98, 143, 142), 0.9, landmarks=((121, 120), (99, 98)), head=(88, 87, 154, 153))
    later = motion.predicted(track, rates, 0.1)
    assert later.landmarks is not None
    assert later.head is not None
    assert later.box[2] - later.box[0] == pytest.approx(48, abs=0.3)
    assert later.landmarks[1] == pytest.approx(later.box[:2])
    center = (later.box[0] + later.box[2]) / 2, (later.box[1] + later.box[3]) / 2
    assert later.landmarks[0] == pytest.approx(center)
    assert later.head[2] - later.head[0] == pytest.approx(1.5 * (later.box[2] - later.box[0]))


def test_size_is_bounded_whatever_was_measured() -> None:
    rates = motion.measured((0, 0, 40, 40), (0, 0, 100, 10), 0.01, None)
    for seconds in (0.1, 1, 100):
        box = motion.predicted(Track(1, (0, 0, 100, 10), 0.9), rates, seconds).box
        assert (box[2] - box[0], box[3] - box[1]) == pytest.approx((150, 10 / 1.5))


@pytest.fixture
def new_source(tiny_bundle: Path) -> Callable[[], SourceState]:
    head = load_head(load_bundle(tiny_bundle))
    return lambda: SourceState(PersonOptions(plan_clips(8, 1.6), 0.8, 0.08, head))


def walked(
    source: SourceState, at: Callable[[float], Box | None], every: float, seconds: float
) -> tuple[list[Box], int]:
    """Show a source who walks, and return the boxes of all frames and the number of detections."""
    image = np.zeros((200, 1920, 3), np.uint8)
    shown, detections = [], 0
    for index in range(int(seconds * RATE)):
        t = index / RATE
        frame, box = Frame(image, index, t, "a"), at(t)
        if source.begin(frame, every):
            detections += 1
            rows = np.float32([box] if box else []).reshape(-1, 4)
            source.follow(Detections(rows, np.full(len(rows), 0.9, np.float32)), frame)
        shown += [track.box for track in source.tracks if track.seen]
    return shown, detections


def head_at(x: float, rng: np.random.Generator | None = None) -> Box:
    """Return the box of a head at x, with the noise of a detector."""
    noise = rng.normal(0, 1, 4) if rng else np.zeros(4)
    x1, y1, x2, y2 = np.array([x - HEAD / 2, 80, x + HEAD / 2, 80 + HEAD]) + noise
    return x1, y1, x2, y2


@pytest.mark.parametrize("every", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("speed", [0, 1, 3, 6, 8.75])
def test_who_walks_keeps_the_id_and_the_box(
    new_source: Callable[[], SourceState], every: float, speed: float
) -> None:
    rng, source = np.random.default_rng(0), new_source()
    seconds = min(1800 / (speed * HEAD), 8) if speed else 4
    boxes, detections = walked(source, lambda t: head_at(HEAD + speed * HEAD * t, rng), every, seconds)
    assert list(source.persons) == [1]
    assert len(boxes) == int(seconds * RATE)
    errors = [abs((box[0] + box[2]) / 2 / HEAD - 1 - speed * i / RATE) for i, box in enumerate(boxes)]
    assert np.median(errors) < 0.05 + 0.04 * speed * every  # head widths
    assert detections <= 2 * (seconds / (every - 1 / RATE) + 1)


def test_boxes_stay_in_the_frame(new_source: Callable[[], SourceState]) -> None:
    # Somebody runs out of the frame right after a detection.
    boxes, _ = walked(new_source(), lambda t: head_at(1700 + 400 * t), 10.0, 2)
    assert len(boxes) == 2 * RATE
    for x1, y1, x2, y2 in boxes:
        assert 0 <= x1 < x2 <= 1920
        assert 0 <= y1 < y2 <= 200


def test_somebody_who_is_missed_is_looked_for_at_once(new_source: Callable[[], SourceState]) -> None:
    _, detections = walked(new_source(), lambda t: head_at(300) if t < 0.9 else None, 0.5, 1.1)
    assert detections == 5  # at 0, 0.04 (for the speed), 0.48, 1.0 and 1.04 s


@pytest.mark.parametrize("rate", [7, 10, 12, 15, 24, 25, 29.97, 60, 144])
@pytest.mark.parametrize("every", [0.2, 0.5, 1 / 3])
def test_the_mean_time_between_two_detections_is_that_which_was_asked(
    new_source: Callable[[], SourceState], rate: float, every: float
) -> None:
    source = new_source()
    image = np.zeros((40, 40, 3), np.uint8)
    frames = [Frame(image, i, i / rate, "a") for i in range(int(20 * rate))]
    times = [frame.t for frame in frames if source.begin(frame, every)]
    gaps = np.diff(times)
    assert gaps.mean() == pytest.approx(every, rel=0.02)
    assert gaps.max() <= every + 1 / rate + 1e-9
    # For a live source whose pace is chosen it is the least time: the machine has no time for more.
    source = new_source()
    times = [frame.t for frame in frames if source.begin(frame, every, on_grid=False)]
    assert np.diff(times).min() >= 0.95 * every - 1e-9


def test_a_gap_in_the_frames_is_not_made_up_for(new_source: Callable[[], SourceState]) -> None:
    source = new_source()
    image = np.zeros((40, 40, 3), np.uint8)
    times = [0.0, 0.1, 0.2, 5.0, 5.1, 5.2, 5.3, 5.4]
    detected = [t for i, t in enumerate(times) if source.begin(Frame(image, i, t, "a"), 0.2)]
    assert detected == [0.0, 0.2, 5.0, 5.2, 5.4]


def test_a_scene_cut_is_followed_by_a_detection_at_once(new_source: Callable[[], SourceState]) -> None:
    source = new_source()
    walked(source, lambda _: head_at(300), 10.0, 1)
    rng = np.random.default_rng(0)
    other = np.repeat(np.repeat(rng.integers(0, 255, (5, 48, 3), np.uint8), 40, axis=0), 40, axis=1)
    striped = np.zeros_like(other)
    striped[:, ::80] = 200
    assert not source.begin(Frame(np.zeros((200, 1920, 3), np.uint8), 25, 1.0, "a"), 10.0)
    assert not source.begin(Frame(striped, 26, 1.04, "a"), 10.0)  # from black: not a cut
    assert source.begin(Frame(other, 27, 1.08, "a"), 10.0)
    assert source.tracks == []
