"""The quality of a view of a head, and the limits below which there is no label."""

import cv2
import msgspec
import numpy as np
import pytest
from annotated_images import ASTRONAUT_HEAD, astronaut
from numpy.typing import NDArray

from emotion_runtime.detectors import load_detector
from emotion_runtime.manifest import DEFAULT_QUALITY, QualityLimits
from emotion_runtime.quality import frontality, measure_quality, roll, sharpness, why_not
from emotion_runtime.types import Quality, Track

FRONTAL = ((40.0, 50.0), (80.0, 50.0), (60.0, 70.0), (45.0, 90.0), (75.0, 90.0))
GOOD = Quality(head_px=80.0, sharpness=0.8, inside=1.0, frontal=0.9, roll_deg=3.0)


def found(image: NDArray[np.uint8]) -> Track:
    return load_detector("face", threads=1)(image).track(0, 1)


# --- measures ---


@pytest.mark.parametrize("angle", [-40, -15, 0, 20, 40])
def test_roll_follows_the_rotation_of_the_image_and_frontality_does_not(angle: int) -> None:
    image = astronaut()
    rotation = cv2.getRotationMatrix2D((228, 97), -angle, 1)  # OpenCV counts counterclockwise
    quality = measure_quality(image, found(image))
    rotated = cv2.warpAffine(image, rotation, (512, 512))
    turned = measure_quality(rotated, found(rotated))
    assert turned.roll_deg - quality.roll_deg == pytest.approx(angle, abs=8)
    assert turned.frontal == pytest.approx(quality.frontal, abs=0.2)
    assert turned.frontal > 0.75


def test_roll_of_a_head_upside_down() -> None:
    turned = tuple((-x, -y) for x, y in FRONTAL)
    assert roll(turned) == pytest.approx(180)
    assert frontality(turned) == 1.0


@pytest.mark.parametrize(("aside", "expected"), [(0, 1.0), (5, 0.75), (-10, 0.5), (20, 0.0), (30, 0.0)])
def test_frontality_falls_as_the_nose_moves_towards_an_eye(aside: float, expected: float) -> None:
    landmarks = [*FRONTAL]
    landmarks[2] = (60.0 + aside, 70.0)
    assert frontality(tuple(landmarks)) == pytest.approx(expected)


def test_landmarks_on_a_line_are_a_profile() -> None:
    assert frontality(((50.0, 50.0), (50.0, 50.0), (60.0, 70.0), (50.0, 90.0), (50.0, 90.0))) == 0.0


def test_sharpness_falls_with_blur_and_depends_little_on_size_and_contrast() -> None:
    image = astronaut()
    scale = 160 / (ASTRONAUT_HEAD[2] - ASTRONAUT_HEAD[0])
    large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    head = tuple(scale * side for side in ASTRONAUT_HEAD)
    values = [sharpness(large, head)]
    values += [sharpness(cv2.GaussianBlur(large, (0, 0), sigma), head) for sigma in (1, 2, 4, 8)]
    assert (np.diff(values) < 0).all()
    assert values[0] > 0.75
    assert values[3] < 0.4  # a blur of 4 pixels
    small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    assert sharpness(small, tuple(side / 2 for side in ASTRONAUT_HEAD)) == pytest.approx(values[0], abs=0.15)
    pale = (large * 0.3 + 120).astype(np.uint8)
    assert sharpness(pale, head) == pytest.approx(values[0], abs=0.1)


def test_motion_blur_in_either_direction_lowers_sharpness() -> None:
    image = astronaut()
    for kernel in ((1, 15), (15, 1)):
        assert sharpness(cv2.blur(image, kernel), ASTRONAUT_HEAD) < 0.5 * sharpness(image, ASTRONAUT_HEAD)


def test_sharpness_of_a_flat_face_and_of_one_without_pixels() -> None:
    image = np.full((50, 50, 3), 90, np.uint8)
    assert sharpness(image, (5.0, 5.0, 45.0, 45.0)) == 0.0
    assert sharpness(image, (60.0, 5.0, 90.0, 45.0)) is None
    assert sharpness(image, (10.0, 10.0, 13.0, 13.0)) is None


@pytest.mark.parametrize(
    ("head", "inside"),
    [((10, 10, 50, 50), 1.0), ((-20, 10, 20, 50), 0.5), ((80, 80, 120, 120), 0.25), ((200, 0, 240, 40), 0.0)],
)
def test_inside_is_the_fraction_of_the_whole_head_in_the_frame(
    head: tuple[float, ...], inside: float
) -> None:
    clipped = tuple(float(np.clip(side, 0, 100)) for side in head)
    quality = measure_quality(np.zeros((100, 100, 3), np.uint8), Track(1, clipped, 0.9, head=head))
    assert quality.inside == pytest.approx(inside)
    assert quality.head_px == 40  # the width of the whole head


def test_a_person_without_a_head_box_has_the_width_of_the_box() -> None:
    quality = measure_quality(np.zeros((100, 100, 3), np.uint8), Track(1, (10.0, 10.0, 50.0, 90.0), 0.9))
    assert quality == Quality(head_px=40.0)
    assert why_not(quality, QualityLimits()) is None


# --- limits ---


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"head_px": 5.0}, "small"),
        ({"sharpness": 0.0}, "blurred"),
        ({"inside": 0.2}, "cut"),
        ({"frontal": 0.0}, "turned away"),
        ({"head_px": 0.0, "frontal": 0.0, "inside": 0.0}, "turned away"),
        ({"sharpness": None, "frontal": None}, None),
    ],
)
def test_reason_why_there_is_no_label(change: dict[str, float | None], why: str | None) -> None:
    values = {name: getattr(GOOD, name) for name in GOOD.__struct_fields__}
    assert why_not(Quality(**(values | change)), QualityLimits()) == why


def test_limits_can_be_given() -> None:
    assert why_not(GOOD, QualityLimits(head_px=100.0)) == "small"
    assert why_not(GOOD, QualityLimits(head_px=0, sharpness=0, inside=0, frontal=0)) is None


def test_a_bundle_of_an_earlier_schema_has_the_limits_that_applied_then() -> None:
    assert QualityLimits(head_px=16, sharpness=0.2, inside=0.7, frontal=0.1) == DEFAULT_QUALITY
    assert msgspec.json.decode(b"{}", type=QualityLimits) == DEFAULT_QUALITY
