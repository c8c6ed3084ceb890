"""The tracker on synthetic paths and on real people."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest

from emotion_runtime.detectors import load_detector
from emotion_runtime.tracker import Tracker
from emotion_runtime.types import Detections, Track

SIDE = 60


def boxes(*centers: tuple[float, float], score: float = 0.9) -> Detections:
    """Return heads of 60 pixels at the given centres."""
    corners = [(x - SIDE / 2, y - SIDE / 2, x + SIDE / 2, y + SIDE / 2) for x, y in centers]
    return Detections(np.array(corners, np.float32).reshape(-1, 4), np.full(len(corners), score, np.float32))


def seen(tracks: list[Track]) -> list[int]:
    return [track.id for track in tracks if track.seen]


def test_ids_count_from_one_and_from_left_to_right_within_a_frame() -> None:
    tracker = Tracker(confirm_frames=3)
    for frame in range(4):
        tracks = tracker.update(boxes((500, 100), (100, 100), (300, 100)), frame / 10)
    assert [track.id for track in tracks] == [1, 2, 3]
    assert [round(track.box[0] + SIDE / 2) for track in tracks] == [100, 300, 500]
    for frame in range(4, 8):
        tracks = tracker.update(boxes((500, 100), (100, 100), (300, 100), (20, 300)), frame / 10)
    assert seen(tracks) == [1, 2, 3, 4]


def test_box_is_that_of_the_detection() -> None:
    tracker = Tracker(confirm_frames=1)
    for frame in range(5):
        found = boxes((100 + 7 * frame, 100), score=0.75)
        tracks = tracker.update(found, frame / 10)
    assert tracks[0].box == pytest.approx(found.boxes[0])
    assert tracks[0].score == pytest.approx(0.75)


def test_landmarks_and_heads_stay_with_their_person() -> None:
    tracker = Tracker(confirm_frames=1)
    found = boxes((500, 100), (100, 100), (300, 100))
    points = found.boxes[:, None, :2] + np.arange(10, dtype=np.float32).reshape(5, 2)
    found = Detections(found.boxes, np.float32([0.6, 0.9, 0.7]), points, found.boxes - 5)
    for frame in range(3):
        tracks = tracker.update(found, frame / 10)
    for track, row in zip(tracks, (1, 2, 0), strict=True):
        np.testing.assert_array_equal(track.landmarks, points[row])
        assert track.head == pytest.approx(found.boxes[row] - 5)


def test_intermittent_detection_is_not_confirmed() -> None:
    tracker = Tracker(confirm_frames=3)
    for frame in range(30):
        flicker = [(400.0, 300.0)] if frame % 4 < 2 else []
        tracks = tracker.update(boxes((100, 100), *flicker), frame / 25)
    assert [track.id for track in tracks] == [1]


def test_weak_detections_continue_a_track_but_start_none() -> None:
    tracker = Tracker(confirm_score=0.5)
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
def test_gap_splits_a_track_only_beyond_the_lost_time(step: float, max_lost_seconds: float) -> None:
    for gap, same in ((0.9 * max_lost_seconds, True), (1.1 * max_lost_seconds + step, False)):
        tracker = Tracker(max_lost_seconds=max_lost_seconds)
        t = 0.0
        for _ in range(10):
            tracker.update(boxes((100, 100)), t)
            t += step
        last_seen = t - step
        while t < last_seen + gap - step:
            tracker.update(Detections.empty(), t)
            t += step
        for frame in range(4):
            tracks = tracker.update(boxes((100, 100)), last_seen + gap + frame * step)
        assert seen(tracks) == ([1] if same else [2])


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
        for tracks in histories[0][3:]:
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
