"""Where whole persons are detected, a head must be visible for a label."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from emotion_runtime import EmotionRuntime
from emotion_runtime.detectors import head_finder, load_detector
from emotion_runtime.detectors.heads import HeadsOfPersons
from emotion_runtime.sources import open_source
from emotion_runtime.timing import Timing
from emotion_runtime.types import Detections, Person, Track

YOLOX = "weights/yolox_nano_416_coco.onnx"


def persons(shared_data: Path, clip: str, count: int, step: int) -> Iterator[Person]:
    """Yield the confirmed persons in view in every `step`-th of the first frames of a sample clip."""
    (path,) = (shared_data / "videos").glob(f"*{clip}*")
    timing = Timing(smoothing=0.0)
    with (
        EmotionRuntime(detector=shared_data / YOLOX, backend="cpu", timing=timing) as runtime,
        open_source(str(path)) as frames,
    ):
        for frame in islice(frames, 0, count * step, step):
            for person in runtime.step(frame.image, frame.t).persons:
                if person.state in ("warming", "steady") and person.emotions:
                    yield person
        assert runtime.timer.seconds["heads"] > 0  # apart from `detect`, which empty frames go through, too


@pytest.mark.parametrize(("clip", "count", "step"), [("one-by-one", 24, 5), ("vtest", 24, 4)])
def test_backs_and_pedestrians_from_above_have_no_label(
    shared_data: Path, clip: str, count: int, step: int
) -> None:
    found = list(persons(shared_data, clip, count, step))
    assert len(found) >= 10
    assert [person.top for person in found] == [None] * len(found)
    assert {person.why for person in found} <= {"turned away", "small", "warming"}
    assert sum(person.why == "turned away" for person in found) >= len(found) / 2


def test_people_who_face_the_camera_have_labels_and_the_quality_of_their_heads(shared_data: Path) -> None:
    found = [person for person in persons(shared_data, "walking", 14, 5) if person.state == "steady"]
    assert len(found) >= 10
    for person in found:
        assert person.why in (None, "uncertain")
        assert person.quality is not None
        assert person.quality.frontal > 0.7
        assert person.quality.head_px < 0.7 * (person.box[2] - person.box[0])  # of the head, not of the body
    assert sum(person.top is not None for person in found) >= len(found) / 2


def test_found_heads_are_those_of_the_face_detector(shared_data: Path) -> None:
    (path,) = (shared_data / "videos").glob("*walking*")
    with open_source(str(path)) as frames:
        image = next(islice(frames, 30, None)).image
    bodies = load_detector(str(shared_data / YOLOX), threads=1)(image)
    tracks = [bodies.track(row, row + 1) for row in np.flatnonzero(bodies.scores >= 0.5)]
    faces = load_detector("face", threads=1)(image)
    assert len(tracks) == 3
    for track, found in zip(tracks, HeadsOfPersons(threads=1)(image, tracks), strict=True):
        assert found is not None
        assert (found.id, found.box) == (track.id, track.box)
        distances = np.abs(faces.landmarks - np.array(found.landmarks)).max(axis=(1, 2))
        assert distances.min() < 6  # pixels; heads are 70 wide
        nearest = faces.heads[distances.argmin()]
        np.testing.assert_allclose(found.head, nearest, atol=10)


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (40, 40, 40, 40), (-30, -30, -10, -10), (90, 90, 100, 100)])
def test_boxes_without_pixels_have_no_head(box: tuple[float, ...]) -> None:
    assert HeadsOfPersons(threads=1)(np.zeros((90, 90, 3), np.uint8), [Track(1, box, 0.9)]) == [None]


def test_heads_are_looked_for_only_where_the_detector_finds_whole_persons(
    shared_data: Path, fixed_detector: Path
) -> None:
    assert head_finder(load_detector("face", threads=1)) is None
    assert head_finder(load_detector(str(fixed_detector), threads=1)) is None  # its class is "head"
    assert head_finder(lambda _: Detections.empty()) is None
    assert isinstance(head_finder(load_detector(str(shared_data / YOLOX), threads=1)), HeadsOfPersons)
