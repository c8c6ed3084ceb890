"""People hidden in images: nothing of them is left, nobody is left out, and no image leaves undetected."""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.privacy.hiding import CELLS, PeopleHider, hidden
from emotion_runtime.privacy.regions import HOLD_SECONDS, PeopleRegions
from emotion_runtime.sources import open_source
from emotion_runtime.types import Box, Detections, Frame, Track

HEAD: Box = (40, 20, 80, 68)


def detections(*boxes: Box, score: float = 0.9, heads: bool = True) -> Detections:
    array = np.asarray(boxes, np.float32).reshape(-1, 4)
    return Detections(array, np.full(len(array), score, np.float32), None, array if heads else None)


def frame(index: int = 0, t: float = 0.0, *, seed: int = 0, still: bool = False) -> Frame:
    image = np.random.default_rng(seed).integers(0, 255, (120, 160, 3), np.uint8)
    return Frame(image, index, t, "a", still=still)


def inside(inner: Box, outer: Box) -> bool:
    return all((outer[0] <= inner[0], outer[1] <= inner[1], outer[2] >= inner[2], outer[3] >= inner[3]))


def covered(box: Box, regions: Sequence[Box]) -> bool:
    return any(inside(box, region) for region in regions)


# --- what is left of a region ---


def test_pixels_may_be_shuffled_within_a_cell_without_a_difference() -> None:
    """What is hidden cannot be computed from the result: many different images give the same one."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (90, 90, 3), np.uint8)
    side = 90 // CELLS
    shuffled = image.copy()
    for y in range(0, 90, side):
        for x in range(0, 90, side):
            cell = shuffled[y : y + side, x : x + side].reshape(-1, 3)
            shuffled[y : y + side, x : x + side] = rng.permutation(cell).reshape(side, side, 3)
    box = (0, 0, 90, 90)
    np.testing.assert_array_equal(hidden(image, [box]), hidden(shuffled, [box]))


def test_part_at_the_edge_has_no_more_cells_than_its_share() -> None:
    image = np.zeros((80, 80, 3), np.uint8)
    image[:, ::2] = 255
    seen = hidden(image, [(-70, -70, 10, 10)])[:10, :10]
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("box", [(-5, -5, 300, 300), (158, 118, 170, 130), (200, 10, 210, 20), (3, 3, 3, 9)])
def test_boxes_beyond_the_image_and_empty_ones(box: Box) -> None:
    given = frame().image
    result = hidden(given, [box])
    assert result.shape == given.shape
    assert result is not given


def test_no_face_is_found_where_faces_were_hidden() -> None:
    find = CenterFace(threads=1)
    with open_source("demo") as demo:
        image = next(iter(demo)).image
    for scale in (0.5, 1.0, 2.0):
        resized = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found = find(resized)
        assert len(found.scores) >= 2
        hider = PeopleHider("faces")
        given = Frame(resized, 0, 0.0, "demo")
        hider.see(given, found, [])
        assert len(find(hider.hide(given).image).scores) == 0


# --- who is hidden ---


def test_head_is_hidden_with_a_margin() -> None:
    (region,) = PeopleRegions("faces").update(detections(HEAD), [], 0.0)
    assert region[0] < HEAD[0] - 5
    assert region[3] > HEAD[3] + 5


def test_weak_detection_that_starts_no_track_is_hidden() -> None:
    assert covered(HEAD, PeopleRegions("faces").update(detections(HEAD, score=0.3), [], 0.0))


def test_person_who_is_missed_for_a_moment_stays_hidden_in_a_growing_region() -> None:
    regions = PeopleRegions("faces")
    widths = [regions.update(detections(HEAD), [], 0.0)[0]]
    for t in (0.1, 0.5, 1.0):
        (region,) = regions.update(detections(), [], t)
        assert inside(widths[-1], region)
        widths.append(region)
    assert regions.update(detections(), [], HOLD_SECONDS + 0.3) == []


def test_person_of_a_slow_source_stays_hidden_for_some_frames() -> None:
    regions = PeopleRegions("faces")
    regions.update(detections(HEAD), [], 0.0)
    assert [len(regions.update(detections(), [], t)) for t in (2.0, 4.0, 6.0)] == [1, 1, 0]


def test_person_who_walks_leaves_no_trail() -> None:
    regions = PeopleRegions("faces")
    for step in range(20):
        box = (40 + 3 * step, 20, 80 + 3 * step, 68)
        assert len(regions.update(detections(box), [], step / 25)) == 1


def test_expected_place_of_a_lost_person_is_hidden() -> None:
    lost = Track(7, (100, 20, 140, 68), 0.9, seen=False, head=(100, 20, 140, 68))
    assert covered((100, 20, 140, 68), PeopleRegions("faces").update(detections(), [lost], 0.0))


def test_time_that_runs_backwards_begins_anew() -> None:
    regions = PeopleRegions("faces")
    regions.update(detections(HEAD), [], 5.0)
    assert regions.update(detections(), [], 0.0) == []


@pytest.mark.parametrize("aspect", [0.6, 1.0, 1.6, 3.0])
def test_face_of_a_whole_person_is_hidden(aspect: float) -> None:
    """A standing person's face is in the upper half; whoever sits or lies is hidden whole."""
    body = (40.0, 20.0, 80.0, 20 + 40 * aspect)
    (region,) = PeopleRegions("faces").update(detections(body, heads=False), [], 0.0)
    part = 1 / 2 if aspect > 1.5 else 1
    assert inside((40.0, 20.0, 80.0, 20 + part * 40 * aspect), region)


def test_whole_person_is_hidden_also_where_only_the_head_is_detected() -> None:
    for heads, box in ((False, (40, 20, 80, 140)), (True, HEAD)):
        (region,) = PeopleRegions("persons").update(detections(box, heads=heads), [], 0.0)
        assert inside((20, 20, 100, 140) if heads else box, region)


# --- which image leaves ---


def test_image_between_two_detections_is_replaced_by_the_latest_detected_one() -> None:
    hider = PeopleHider("faces")
    first, second, third = frame(0), frame(1, 0.1, seed=1), frame(2, 0.2, seed=2)
    hider.see(first, detections(HEAD), [])
    shown = hider.hide(first).image
    assert (shown[20:68, 40:80] != first.image[20:68, 40:80]).mean() > 0.9
    np.testing.assert_array_equal(shown[:, 120:], first.image[:, 120:])
    assert hider.hide(second).image is shown
    hider.see(third, detections(), [])
    assert (hider.hide(third).image[20:68, 40:80] != third.image[20:68, 40:80]).mean() > 0.9


def test_image_of_a_source_without_any_detection_is_black() -> None:
    hider = PeopleHider("faces")
    assert not hider.hide(frame()).image.any()
    hider.see(frame(0), detections(), [])
    hider.forget("a")
    assert not hider.hide(frame(0)).image.any()


def test_photo_has_nothing_of_the_photo_before() -> None:
    hider = PeopleHider("faces")
    for seed, found in ((0, detections(HEAD)), (1, detections())):
        photo = frame(0, seed=seed, still=True)
        hider.see(photo, found, [])
        shown = hider.hide(photo).image
    np.testing.assert_array_equal(shown, photo.image)


def test_regions_follow_the_size_of_the_image() -> None:
    hider = PeopleHider("faces")
    hider.see(frame(0), detections(HEAD), [])
    larger = Frame(np.full((240, 320, 3), 90, np.uint8), 1, 0.1, "a")
    larger.image[40:136:2, 80:160] = 200
    hider.see(larger, detections(), [])
    assert (hider.hide(larger).image[40:136, 80:160] != larger.image[40:136, 80:160]).mean() > 0.9
