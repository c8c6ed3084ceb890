"""Windows, crops and patch weights; tests/train/model/test_golden.py compares them with the official code."""

import msgspec
import numpy as np
import pytest
from PIL import Image

from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import (
    PreprocessSpec,
    Window,
    center_window,
    crop,
    patch_weights,
    subject_window,
    surroundings,
    union_patch_weights,
)

CENTER = PreprocessSpec()
SLID = PreprocessSpec(window="subject")
HEADS = PreprocessSpec(size=112, patch=16, short_side=128, window="subject", subject_scale=1.3)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), np.uint8)


def weights_of_mask(box: tuple[float, ...], window: Window, spec: PreprocessSpec) -> np.ndarray:
    """Return the weights by definition: draw the box as a mask in the window, average it over each patch."""
    x1, y1, x2, y2 = (value * window.scale for value in box)
    mask = np.zeros((spec.size, spec.size))
    rows = slice(max(int(np.floor(y1 - window.top)), 0), max(int(np.ceil(y2 - window.top)), 0))
    columns = slice(max(int(np.floor(x1 - window.left)), 0), max(int(np.ceil(x2 - window.left)), 0))
    mask[rows, columns] = 1
    n, p = spec.side_patches, spec.patch
    return mask.reshape(n, p, n, p).mean((1, 3)).ravel()


@pytest.mark.parametrize("spec", [CENTER, SLID, HEADS])
@pytest.mark.parametrize("box", [(10, 20, 90, 110), (300.5, 40.2, 371.9, 130.7), (600, 5, 639, 60)])
def test_weights_equal_the_averaged_mask(spec: PreprocessSpec, box: tuple[float, ...]):
    window = center_window(360, 640, spec) if spec is CENTER else subject_window(box, 360, 640, spec)
    weights = patch_weights(box, window, spec)
    assert weights.shape == (spec.patches,)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, weights_of_mask(box, window, spec), atol=1e-6)


@pytest.mark.parametrize("spec", [SLID, HEADS])
def test_person_at_the_edge_keeps_its_weights(spec: PreprocessSpec):
    box = (1200.0, 300.0, 1275.0, 390.0)  # at the right edge of a 16:9 frame
    assert patch_weights(box, center_window(720, 1280, CENTER), CENTER).sum() == 0
    window = subject_window(box, 720, 1280, spec)
    x1, y1, x2, y2 = window.source
    assert x1 <= box[0]
    assert y1 <= box[1]
    assert x2 >= box[2]
    assert y2 >= box[3]
    covered = patch_weights(box, window, spec).sum() * spec.patch**2
    width, height = 75 * window.scale, 90 * window.scale
    assert width * height <= covered <= (width + 2) * (height + 2)  # widened to whole pixels


@pytest.mark.parametrize(
    "box", [(-50, -50, 30, 30), (620, 340, 700, 420), (0, 0, 640, 360), (300, 0, 310, 360)]
)
@pytest.mark.parametrize("spec", [SLID, HEADS])
def test_subject_window_is_a_square_inside_the_frame(box: tuple[int, ...], spec: PreprocessSpec):
    x1, y1, x2, y2 = subject_window(box, 360, 640, spec).source
    assert x2 - x1 == y2 - y1
    assert x1 >= 0
    assert y1 >= 0
    assert x2 <= 640
    assert y2 <= 360


@pytest.mark.parametrize("frame", [(60, 60), (60, 90), (90, 60), (300, 300)])
def test_window_beyond_the_frame_shows_the_head_at_its_usual_size(frame: tuple[int, int]):
    height, width = frame
    spec = msgspec.structs.replace(HEADS, beyond_frame=True)
    window = subject_window((0, 0, 60, 60), height, width, spec)
    x1, y1, x2, y2 = window.source
    assert x2 - x1 == y2 - y1 == 78  # 1.3 heads, whatever the frame
    # A frame that is too small is centred in the window; if it is large enough, nothing lies outside.
    assert (x1, y1) == tuple((length - 78) // 2 if length < 78 else 0 for length in (width, height))
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    grey = np.round(255 * np.array(spec.mean)).astype(np.uint8)
    canvas = np.tile(grey, (height + 200, width + 200, 1))
    canvas[100 : 100 + height, 100 : 100 + width] = image
    shown = canvas[100 + int(y1) : 100 + int(y2), 100 + int(x1) : 100 + int(x2)]
    expected = np.asarray(Image.fromarray(shown).resize((112, 112), Image.Resampling.BICUBIC), int)
    inside = slice(2, -2)  # the kernel also uses pixels of the frame beyond the window's edge
    found = crop(image, window, spec).astype(int)
    assert np.abs(found - expected)[inside, inside].max() <= 1
    if height < 78:
        assert (found[0] == grey).all()


def test_head_fills_the_fraction_of_the_window_given_by_the_spec():
    side = 100.0
    x1, _, x2, _ = subject_window((400, 300, 400 + side, 300 + side), 1080, 1920, HEADS).source
    assert x2 - x1 == pytest.approx(1.3 * side, abs=1)


def test_window_of_a_body_is_placed_on_its_head():
    x1, y1, x2, y2 = subject_window((500, 200, 700, 900), 1080, 1920, HEADS).source
    assert x2 - x1 == pytest.approx(1.3 * 0.55 * 200, abs=1)
    assert (x1 + x2) / 2 == pytest.approx(600, abs=1)
    assert 150 < y1 < 200 < y2 < 400


@pytest.mark.parametrize("size", [(480, 640), (720, 1280), (1080, 1920), (640, 480)])
def test_center_crop_equals_resizing_then_cropping(size: tuple[int, int]):
    image = noise(*size)
    height, width = size
    window = center_window(height, width, CENTER)
    short = 256 / min(size)
    resized = Image.fromarray(image).resize(
        (int(width * short), int(height * short)), Image.Resampling.BICUBIC
    )
    left, top = round((resized.width - 224) / 2), round((resized.height - 224) / 2)
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224)), int)
    # Noise is the hardest image; photographs stay within one grey level.
    assert np.abs(crop(image, window, CENTER).astype(int) - expected).mean() < 0.2


@pytest.mark.parametrize("place", [(0, 0), (5, 3), (117, 32), (-4, 0), (118, 0), (2, 33), (1.5, 2)])
def test_a_window_of_whole_pixels_is_what_resizing_gives(place: tuple[float, float]):
    """Also where it exceeds the frame of 341 x 256, and where it lies between pixels."""
    frame = np.random.default_rng(0).integers(0, 256, (256, 341, 3), np.uint8)
    left, top = place
    window = Window(1.0, left, top, (left, top, left + 224, top + 224))
    spec = PreprocessSpec()
    border = np.empty((256 + 40, 341 + 40, 3), np.uint8)
    border[:] = [round(255 * value) for value in spec.mean]
    border[20:-20, 20:-20] = frame
    box = (left + 20, top + 20, left + 244, top + 244)
    resized = Image.fromarray(border).resize((224, 224), Image.Resampling.BICUBIC, box=box)
    assert np.array_equal(crop(frame, window, spec), np.asarray(resized))
    assert not np.shares_memory(crop(frame, window, spec), frame)


def test_crop_equals_that_of_the_whole_frame():
    """Pillow gets only the window's surroundings, but the result equals that of the whole frame."""
    image = noise(720, 1280)
    window = subject_window((600, 300, 700, 420), 720, 1280, HEADS)
    whole = Image.fromarray(image).resize((112, 112), Image.Resampling.BICUBIC, box=window.source)
    np.testing.assert_array_equal(crop(image, window, HEADS), np.asarray(whole))


@pytest.mark.parametrize("box", [(50, 40, 90, 91), (-12, 3, 40, 60.5), (2, 2, 118, 97), (80, 60, 120, 100)])
def test_a_crop_depends_on_the_surroundings_of_its_window_alone(box: tuple[float, ...]):
    image = noise(100, 120)
    beyond = PreprocessSpec(window="subject", beyond_frame=True, subject_scale=1.3)
    for window in (subject_window(box, 100, 120, beyond), center_window(100, 120, beyond)):
        part, moved = surroundings(image, window)
        np.testing.assert_array_equal(crop(part, moved, beyond), crop(image, window, beyond))


def test_crop_and_weights_show_the_same_place():
    """In a white box on black, the mean brightness of each patch is its weight."""
    box = (500, 250, 604, 354)
    image = np.zeros((720, 1280, 3), np.uint8)
    image[250:354, 500:604] = 255
    window = subject_window(box, 720, 1280, HEADS)
    n, p = HEADS.side_patches, HEADS.patch
    bright = crop(image, window, HEADS)[..., 0].reshape(n, p, n, p).mean((1, 3)).ravel() / 255
    np.testing.assert_allclose(bright, patch_weights(box, window, HEADS), atol=0.06)


@pytest.mark.parametrize("image", [np.zeros((10, 10), np.uint8), np.zeros((10, 10, 3), np.float32)])
def test_invalid_image_is_rejected(image: np.ndarray):
    with pytest.raises(EmotionError, match="expected \\(height, width, 3\\) uint8 RGB"):
        crop(image, center_window(10, 10, CENTER), CENTER)


@pytest.mark.parametrize("change", [{"size": 100}, {"size": 0}, {"short_side": 200}, {"subject_scale": 0.5}])
def test_contradictory_spec_is_rejected(change: dict[str, float]):
    with pytest.raises(EmotionError, match="preprocess spec"):
        PreprocessSpec(**change)


def test_union_of_boxes_counts_shared_pixels_once():
    spec = PreprocessSpec()
    window = center_window(300, 400, spec)
    boxes = [(20.0, 30.0, 210.3, 250.0), (150.0, 5.5, 380.0, 120.0), (390.0, 290.0, 399.0, 299.0)]
    inside = np.zeros((224, 224))
    for x1, y1, x2, y2 in boxes:
        for y in range(224):
            for x in range(224):
                left, right = x1 * window.scale - window.left, x2 * window.scale - window.left
                top, bottom = y1 * window.scale - window.top, y2 * window.scale - window.top
                if np.floor(left) <= x < np.ceil(right) and np.floor(top) <= y < np.ceil(bottom):
                    inside[y, x] = 1
    expected = [inside[r : r + 32, c : c + 32].mean() for r in range(0, 224, 32) for c in range(0, 224, 32)]
    assert union_patch_weights(boxes, window, spec) == pytest.approx(expected, abs=1e-6)
    assert not union_patch_weights([], window, spec).any()
    one = union_patch_weights(boxes[:1], window, spec)
    assert one == pytest.approx(patch_weights(boxes[0], window, spec), abs=1e-6)
