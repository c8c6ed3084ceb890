"""Boxes of the detector, against the authors' masks computed here, and the choice of frames."""

from pathlib import Path

import numpy as np
import pytest
from trees import jpeg

from emotion_runtime.preprocess import PreprocessSpec, center_window, union_patch_weights
from emotion_train.datasets.boxes import image_of_everyone, inside, person_boxes
from emotion_train.datasets.frames import clip_frames, frame_number, image_size, uniform
from emotion_train.datasets.rows import BadRow

SPEC = PreprocessSpec()
DETECTIONS = [
    (33.3, 50.9, 210.6, 300.2, 0.9),
    (180.0, 20.5, 420.7, 349.9, 0.51),
    (500.1, 100.4, 639.9, 200.0, 0.5),  # nobody: not above the threshold
    (300.0, 0.0, 310.0, 400.0, 0.2),
]


def authors_mask(width: int, height: int) -> np.ndarray:
    """Return a mask (224, 224) of 0 and 1, of the centre crop of the frame resized to a short side of 256."""
    short = min(width, height)
    resized_w, resized_h = int(256 * width / short), int(256 * height / short)
    ratio = min(640 / resized_w, 640 / resized_h)
    mask = np.zeros((resized_h, resized_w))
    for x1, y1, x2, y2, score in DETECTIONS:
        if score > 0.5:
            left, top = max(int(np.floor(x1 / ratio)), 0), max(int(np.floor(y1 / ratio)), 0)
            right, bottom = min(int(np.ceil(x2 / ratio)), resized_w), min(int(np.ceil(y2 / ratio)), resized_h)
            mask[top:bottom, left:right] = 1
    top, left = round((resized_h - 224) / 2), round((resized_w - 224) / 2)
    return mask[top : top + 224, left : left + 224]


def patches(mask: np.ndarray) -> np.ndarray:
    return mask.reshape(7, 32, 7, 32).mean((1, 3)).ravel()


@pytest.mark.parametrize("size", [(512, 256), (1024, 512), (300, 300), (320, 480)])
def test_patch_weights_are_the_authors_masks(size: tuple[int, int]):
    """For sizes whose resized sides are integers, both ways use the same scale."""
    boxes = person_boxes(DETECTIONS, *size)
    weights = union_patch_weights(boxes, center_window(size[1], size[0], SPEC), SPEC)
    assert weights.any()
    np.testing.assert_allclose(weights, patches(authors_mask(*size)), atol=1e-6)


@pytest.mark.parametrize("size", [(768, 576), (1280, 720), (1920, 1080), (624, 352), (719, 301)])
def test_patch_weights_of_other_sizes_differ_by_at_most_a_line_of_pixels(size: tuple[int, int]):
    boxes = person_boxes(DETECTIONS, *size)
    weights = union_patch_weights(boxes, center_window(size[1], size[0], SPEC), SPEC)
    np.testing.assert_allclose(weights, patches(authors_mask(*size)), atol=1 / 32 + 1e-6)


def test_boxes_are_clipped_and_those_outside_are_left_out():
    detections = [
        (-20.0, 10.0, 100.0, 700.0, 0.9),
        (645.0, 10.0, 700.0, 90.0, 0.9),
        (9.0, 9.0, 9.0, 20.0, 0.9),
    ]
    assert person_boxes(detections, 320, 160) == ((0.0, 5.0, 50.0, 160.0),)


def test_an_empty_entry_differs_from_a_missing_entry():
    assert image_of_everyone(Path("clip/a.jpg"), {"a.jpg": []}, 64, 48).boxes == ()
    with pytest.raises(BadRow, match="no boxes for a frame"):
        image_of_everyone(Path("clip/b.jpg"), {"a.jpg": []}, 64, 48)


def test_a_box_inside_an_image():
    assert inside((-5, -5, 1, 1), 64, 48) == (-5, -5, 1, 1)
    for box in ((64, 0, 90, 9), (0, 48, 9, 60), (5, 5, 5, 9), (9, 5, 5, 9)):
        with pytest.raises(BadRow, match="box without area"):
            inside(box, 64, 48)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (0, 7, [0, 1, 2, 3, 4, 5, 6, 7]),
        (0, 9, [0, 1, 2, 3, 5, 6, 7, 9]),  # by hand: 0, 1.29, 2.57, 3.86, 5.14, 6.43, 7.71, 9
        (3, 3, [3] * 8),
        (0, 1, [0] * 7 + [1]),
        (100, 170, [100, 110, 120, 130, 140, 150, 160, 170]),
    ],
)
def test_frames_are_spread_evenly_including_both_ends(first: int, last: int, expected: list[int]):
    assert uniform(first, last) == expected


@pytest.mark.parametrize("length", range(1, 400, 7))
def test_the_spread_is_rounded_down(length: int):
    assert uniform(0, length - 1) == [(length - 1) * k // 7 for k in range(8)]


def test_frames_are_ordered_by_number_not_by_name(tmp_path: Path):
    for n in (0, 2, 10, 9):
        jpeg(tmp_path / f"frame_{n}.jpg")
    (tmp_path / "Thumbs.db").touch()
    jpeg(tmp_path / "cover.jpg")
    assert [number for number, _ in clip_frames(tmp_path)] == [0, 0, 0, 2, 2, 9, 9, 10]
    assert frame_number(tmp_path / "scene2_image_00012.jpg") == 12


def test_the_size_of_an_image(tmp_path: Path):
    assert image_size(jpeg(tmp_path / "a.jpg", (31, 17))) == (31, 17)
    with pytest.raises(BadRow, match="missing frame"):
        image_size(tmp_path / "b.jpg")
