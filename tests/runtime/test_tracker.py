"""The tracker on synthetic paths and on real people."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest

from emotion_runtime.detectors import load_detector
from emotion_runtime.tracker import PATIENCE_FRAMES, Tracker
from emotion_runtime.types import Detections, Track

SIDE = 60


def boxes(*centers: tuple[float, float], score: float = 0.9) -> Detections:
    """Return heads of 60 pixels at the given centres."""
    corners = [(x - SIDE / 2, y - SIDE / 2, x + SIDE / 2, y + SIDE / 2) for x, y in centers]
    return Detections(np.array(corners, np.float32).reshape(-1, 4), np.full(len(corners), score, np.float32))


def seen(tracks: list[Track]) -> list[int]:
    return [track.id for track in tracks if track.seen]


def test_ids_count_from_one_and_from_left_to_right_within_a_frame() -> None:
    tracker = Tracker()
    for frame in range(4):
        tracks = tracker.update(boxes((500, 100), (100, 100), (300, 100)), frame / 10)
    assert [track.id for track in tracks] == [1, 2, 3]
    assert [round(track.box[0] + SIDE / 2) for track in tracks] == [100, 300, 500]
    for frame in range(4, 8):
        tracks = tracker.update(boxes((500, 100), (100, 100), (300, 100), (20, 300)), frame / 10)
    assert seen(tracks) == [1, 2, 3, 4]


def test_box_is_that_of_the_detection() -> None:
    tracker = Tracker()
    for frame in range(5):
        found = boxes((100 + 7 * frame, 100), score=0.75)
        tracks = tracker.update(found, frame / 10)
    assert tracks[0].box == pytest.approx(found.boxes[0])
    assert tracks[0].score == pytest.approx(0.75)


def test_landmarks_and_heads_stay_with_their_person() -> None:
    tracker = Tracker()
    found = boxes((500, 100), (100, 100), (300, 100))
    points = found.boxes[:, None, :2] + np.arange(10, dtype=np.float32).reshape(5, 2)
    found = Detections(found.boxes, np.float32([0.6, 0.9, 0.7]), points, found.boxes - 5)
    for frame in range(3):
        tracks = tracker.update(found, frame / 10)
    for track, row in zip(tracks, (1, 2, 0), strict=True):
        np.testing.assert_array_equal(track.landmarks, points[row])
        assert track.head == pytest.approx(found.boxes[row] - 5)


def test_a_person_is_published_at_once_and_confirmed_by_later_detections() -> None:
    tracker = Tracker()
    history = [tracker.update(boxes((100, 100)), frame / 25) for frame in range(4)]
    assert [[(track.id, track.confirmed) for track in tracks] for tracks in history] == [
        [(1, False)],
        [(1, False)],
        [(1, True)],
        [(1, True)],
    ]


def test_intermittent_detection_is_never_confirmed() -> None:
    tracker = Tracker()
    for frame in range(30):
        flicker = [(400.0, 300.0)] if frame % 4 < 2 else []
        tracks = tracker.update(boxes((100, 100), *flicker), frame / 25)
        assert len(tracks) == 1 + len(flicker)  # what is not confirmed is not kept as lost
        assert [track.id for track in tracks if track.confirmed] == ([1] if frame > 1 else [])


def test_a_new_person_keeps_the_id_over_missed_frames() -> None:
    tracker = Tracker()
    tracker.update(boxes((100, 100)), 0.0)
    for frame in (1, 2):
        assert tracker.update(Detections.empty(), frame / 25) == []
    assert seen(tracker.update(boxes((100, 100)), 3 / 25)) == [1]


@pytest.mark.parametrize("step", [0.2, 0.5, 0.9, 1, 1.1, 1.5, 2, 5, 10])
def test_still_people_are_1_and_2_from_the_first_frame_on(step: float) -> None:
    tracker = Tracker()
    for frame in range(8):
        tracks = tracker.update(boxes((400, 100), (100, 100)), frame * step)
        assert seen(tracks) == [1, 2]
        assert [round(track.box[0]) for track in tracks] == [70, 370]
        assert all(track.confirmed for track in tracks) == (frame >= 1)
    tracks = tracker.update(boxes((100, 100)), 8 * step)  # one is missed in a frame
    assert [(track.id, track.seen) for track in tracks] == [(1, True), (2, False)]
    assert seen(tracker.update(boxes((400, 100), (100, 100)), 9 * step)) == [1, 2]


def test_still_people_keep_their_ids_over_a_gap_without_frames() -> None:
    # Recordings of screens and meetings have frames only when something moves.
    tracker = Tracker()
    for t in (0, 0.04, 0.08, 0.12, 1.6, 1.64, 4.0, 4.04, 4.08):
        assert seen(tracker.update(boxes((100, 100), (400, 100)), t)) == [1, 2]


@pytest.mark.parametrize("rate", [25, 12, 10, 8, 5])
@pytest.mark.parametrize("speed", [1, 6, 8.75])
@pytest.mark.parametrize("score", [0.9, 0.55])
def test_somebody_who_walks_is_one_person(rate: float, speed: float, score: float) -> None:
    rng = np.random.default_rng(0)
    tracker, head = Tracker(), 38
    for frame in range(int(rate * 640 / (speed * head))):
        x = speed * head * frame / rate + rng.normal(0, 1)
        half = head / 2 + rng.uniform(-1, 1)
        box = np.array([[x - half, 100 - half, x + half, 100 + half]], np.float32)
        assert seen(tracker.update(Detections(box, np.array([score], np.float32)), frame / rate)) == [1]


@pytest.mark.parametrize("rate", [25, 10, 5])
@pytest.mark.parametrize("speed", [60, 120])
@pytest.mark.parametrize("hidden", [0, 50])
def test_people_who_cross_keep_their_ids(rate: float, speed: float, hidden: float) -> None:
    tracker, met = Tracker(), 320 / speed
    for frame in range(int(rate * 2 * met)):
        t = frame / rate
        left, right = (speed * t, 100.0), (640 - speed * t, 104.0)
        both = abs(left[0] - right[0]) >= hidden  # the one behind is not found
        tracks = tracker.update(boxes(left, *([right] if both else [])), t)
        if both:
            assert [track.id for track in tracks] == [1, 2]
            assert tracks[0].box[0] == pytest.approx(left[0] - 30)


def test_boxes_are_scaled_with_the_frame() -> None:
    tracker = Tracker()
    for frame in range(4):
        tracker.update(boxes((100, 100), (300, 100)), frame / 25)
    tracker.rescale(2, 2)
    found = boxes((200, 200), (600, 200))
    tracks = tracker.update(Detections(2 * boxes((100, 100), (300, 100)).boxes, found.scores), 4 / 25)
    assert seen(tracks) == [1, 2]
    assert tracks[0].box == pytest.approx((140, 140, 260, 260))


def test_another_person_in_the_place_of_one_gets_a_new_id() -> None:
    tracker = Tracker()
    for frame in range(4):
        tracker.update(boxes((100, 100), (300, 100)), frame / 25)
    assert tracker.renew(1).id == 3
    assert seen(tracker.update(boxes((100, 100), (300, 100)), 4 / 25)) == [2, 3]
    tracker.forget_all()
    assert seen(tracker.update(boxes((100, 100), (300, 100)), 5 / 25)) == [4, 5]


def test_weak_detections_continue_a_track_but_start_none() -> None:
    tracker = Tracker(start_score=0.5)
    for frame in range(10):
        assert tracker.update(boxes((100, 100), score=0.4), frame / 10) == []
    for frame in range(10, 20):
        tracker.update(boxes((100, 100)), frame / 10)
    for frame in range(20, 60):
        tracks = tracker.update(boxes((100, 100), score=0.4), frame / 10)
        assert seen(tracks) == [1]


def test_lost_track_keeps_its_last_box_until_it_is_dropped() -> None:
    tracker = Tracker(max_lost_seconds=1.0)
    for frame in range(10):
        last = tracker.update(boxes((100 + frame, 100)), frame / 10)
    for frame in range(10, 20):  # 0.1 to 1.0 s after the last detection
        assert tracker.update(Detections.empty(), frame / 10) == [
            Track(1, last[0].box, last[0].score, seen=False)
        ]
    assert tracker.update(Detections.empty(), 2.0) == []


@pytest.mark.parametrize("step", [1 / 60, 1 / 25, 0.1, 0.3])
@pytest.mark.parametrize("max_lost_seconds", [0.5, 1.0, 3.0])
def test_patience_lasts_some_time_and_some_frames(step: float, max_lost_seconds: float) -> None:
    patience = max(max_lost_seconds, PATIENCE_FRAMES * step)
    for gap, same in ((0.9 * patience, True), (1.1 * patience + step, False)):
        tracker = Tracker(max_lost_seconds=max_lost_seconds)
        t = 0.0
        for _ in range(10):
            tracker.update(boxes((100, 100)), t)
            t += step
        last_seen = t - step
        while t < last_seen + gap - 1e-6:
            tracker.update(Detections.empty(), t)
            t += step
        assert seen(tracker.update(boxes((100, 100)), last_seen + gap)) == ([1] if same else [2])


def test_id_is_not_reused_after_a_gap_without_frames() -> None:
    # A source that stalls: no frame arrived while the first person left.
    tracker = Tracker(max_lost_seconds=1.0)
    for frame in range(10):
        tracker.update(boxes((100, 100)), frame / 10)
    ids: set[int] = set()
    for frame in range(10):
        ids |= {track.id for track in tracker.update(boxes((100, 100)), 60 + frame / 10)}
    assert ids == {2}


def test_uneven_and_equal_timestamps() -> None:
    rng = np.random.default_rng(0)
    tracker, t = Tracker(), 0.0
    for frame in range(60):
        t += float(rng.choice([0.0, 0.01, 0.04, 0.2, 0.4]))
        tracks = tracker.update(boxes((100 + 50 * t, 100), (600 - 10 * t, 300)), t)
        if frame > 4:
            assert seen(tracks) == [1, 2]


@pytest.mark.parametrize("apart", [1e-3, 1e-6])
def test_first_frames_may_be_very_close_together(apart: float) -> None:
    """A server sends those that it has kept all at once; a box always trembles by some pixels."""
    tracker = Tracker()
    times = (0.0, apart, 0.1, 0.2)
    ids = [seen(tracker.update(boxes((100 + 2 * (i % 2), 100)), t)) for i, t in enumerate(times)]
    assert ids == [[1]] * 4


def test_decreasing_time_is_a_bug() -> None:
    tracker = Tracker()
    tracker.update(Detections.empty(), 2.0)
    with pytest.raises(ValueError, match="earlier"):
        tracker.update(Detections.empty(), 1.0)


def test_trackers_are_independent() -> None:
    first, second = Tracker(), Tracker()
    for frame in range(5):
        here = first.update(boxes((100, 100), (300, 100)), frame / 10)
        there = second.update(boxes((500, 100)), frame / 10)
    assert seen(here) == [1, 2]
    assert seen(there) == [1]


FoundIn = Callable[[str], list[tuple[float, Detections]]]


@pytest.fixture(scope="module")
def found_in(shared_data: Path) -> FoundIn:
    """Return a function to the times and heads of a clip's frames, computed once."""
    detector = load_detector("face", threads=1)

    @cache
    def heads(clip: str) -> list[tuple[float, Detections]]:
        with av.open(str(shared_data / "videos" / f"{clip}.gif")) as container:
            return [
                (float(frame.time), detector(frame.to_ndarray(format="bgr24")))
                for frame in container.decode(video=0)
            ]

    return heads


@pytest.mark.parametrize(
    ("clip", "people"),
    [
        ("intel_face-demographics-walking-and-pause", 3),
        ("intel_head-pose-face-detection-female-and-male", 2),
        ("intel_classroom", 4),
    ],
)
def test_real_people_keep_their_ids(found_in: FoundIn, clip: str, people: int) -> None:
    found = found_in(clip)
    # Everyone moves little, so the order from left to right is the ground truth for the ids.
    for every in (1, 2, 3):
        histories = []
        for _ in range(2):
            tracker = Tracker()
            histories.append([tracker.update(detections, t) for t, detections in found[::every]])
        assert histories[0] == histories[1]
        for tracks in histories[0]:
            assert [track.id for track in tracks] == list(range(1, people + 1))
            lefts = [track.box[0] for track in tracks]
            assert people == 4 or lefts == sorted(lefts)


def test_missed_detections_do_not_split_tracks_of_real_people(found_in: FoundIn) -> None:
    found = found_in("intel_face-demographics-walking-and-pause")
    for seed in range(5):
        rng = np.random.default_rng(seed)
        tracker, ids = Tracker(), set()
        for t, detections in found:
            kept = rng.random(len(detections.scores)) > 0.4
            tracks = tracker.update(Detections(detections.boxes[kept], detections.scores[kept]), t)
            ids |= {track.id for track in tracks}
        assert ids == {1, 2, 3}
