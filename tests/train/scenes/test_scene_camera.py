"""Camera effects, against formulas, OpenCV and Pillow."""

import copy
import io
import math
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from emotion_train.scenes.camera import (
    Camera,
    apply_camera,
    downsampled,
    draw_camera,
    draw_degraded_camera,
    light_gradient,
)

DrawCamera = Callable[[np.random.Generator], Camera]


def taken_by(view: NDArray[np.generic], seed: int = 0, **effects: object) -> NDArray[np.float64]:
    """Return the camera's image of a view (H, W, 3) as float64."""
    taken = apply_camera(np.asarray(view, np.float32), Camera(**effects), np.random.default_rng(seed))
    assert taken.dtype == np.uint8
    assert taken.flags.c_contiguous
    assert taken.shape == view.shape
    return taken.astype(np.float64)


def plain(*color: float, size: tuple[int, int] = (9, 15)) -> NDArray[np.float32]:
    return np.broadcast_to(np.array(color, np.float32), (*size, 3))


def edge(low: float, high: float) -> NDArray[np.float32]:
    """Return a view that is dark on the left and bright from column 20 on."""
    view = np.full((30, 40, 3), low, np.float32)
    view[:, 20:] = high
    return view


def below(x: float, sigma: float) -> float:
    """Return the fraction of a normal distribution below x."""
    return 0.5 * (1 + math.erf(x / sigma / math.sqrt(2)))


def noisy_image() -> NDArray[np.uint8]:
    """Return coloured shapes with fine detail."""
    rng = np.random.default_rng(3)
    coarse = cv2.resize(rng.integers(20, 230, (4, 5, 3), dtype=np.uint8), (80, 64))
    return np.clip(coarse + rng.normal(0, 12, coarse.shape), 0, 255).astype(np.uint8)


def test_the_default_camera_does_not_change_an_image():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    np.testing.assert_array_equal(taken_by(image), image)
    between = np.random.default_rng(1).uniform(0, 255, (40, 50, 3))
    assert np.abs(taken_by(between) - between).max() <= 1
    assert taken_by(plain(-40, 300, 1e4))[0, 0].tolist() == [0, 255, 255]


def test_gain_is_per_channel_and_offset_is_common():
    taken = taken_by(plain(100, 80, 60), gain=(1.25, 0.5, 2.0), offset=10.0)
    assert taken.reshape(-1, 3).tolist() == [[135, 50, 130]] * 135


def test_gamma_darkens_or_brightens_but_keeps_black_and_white():
    taken = taken_by(plain(51, 102, 204), gamma=2.0)  # 0.2, 0.4 and 0.8 of white
    np.testing.assert_allclose(taken[0, 0], [255 * 0.04, 255 * 0.16, 255 * 0.64], atol=1)
    np.testing.assert_allclose(taken_by(plain(63.75, 0, 255), gamma=0.5)[0, 0], [127.5, 0, 255], atol=1)


def test_light_from_one_side():
    taken = taken_by(plain(100, 100, 100, size=(5, 9)), light=(0.4, -0.2))
    assert taken[2, 4].tolist() == [100, 100, 100]
    expected = {(2, 8): 140, (2, 0): 60, (4, 4): 80, (0, 4): 120, (0, 8): 160, (2, 6): 120, (1, 4): 110}
    for place, level in expected.items():
        np.testing.assert_allclose(taken[place], level, atol=1, err_msg=str(place))
    factors = light_gradient((0.3, -0.45), (101, 51, 3))
    assert factors.shape == (101, 51)
    assert factors[50, 25] == pytest.approx(1, abs=1e-6)
    assert factors.mean() == pytest.approx(1, abs=1e-5)
    assert factors[0, 0] == pytest.approx(1 - 0.3 + 0.45, abs=1e-6)


def test_grey_is_opencvs_greyscale():
    image = noisy_image()
    taken = taken_by(image, grey=True)
    expected = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    for channel in range(3):
        np.testing.assert_allclose(taken[..., channel], expected, atol=1)


def test_noise_has_its_standard_deviation_and_is_independent_per_pixel_and_channel():
    flat = plain(128, 128, 128, size=(200, 200))
    taken = taken_by(flat, noise=8.0)
    assert taken.std() == pytest.approx(math.sqrt(64 + 1 / 12), rel=0.02)  # with what whole levels add
    assert abs(taken.mean() - 128) < 0.6
    between = np.corrcoef(taken.reshape(-1, 3).T)
    assert np.abs(between[np.triu_indices(3, 1)]).max() < 0.03
    neighbours = np.corrcoef(taken[:, 1:].ravel(), taken[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.03
    np.testing.assert_array_equal(taken_by(flat, noise=8.0), taken)
    assert (taken_by(flat, 1, noise=8.0) != taken).mean() > 0.8


@pytest.mark.parametrize("color", [(255, 0, 0), (0, 0, 255), (200, 120, 20)])
def test_jpeg_keeps_colours_in_their_channels(color: tuple[int, int, int]):
    taken = taken_by(plain(*color, size=(32, 32)), jpeg=90)
    np.testing.assert_allclose(taken, np.broadcast_to(color, taken.shape), atol=6)


def test_jpeg_agrees_with_another_encoder():
    image = noisy_image()
    lost = []
    for quality in (20, 50, 90):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "jpeg", quality=quality)
        expected = np.asarray(Image.open(file).convert("RGB"), np.float64)
        taken = taken_by(image, jpeg=quality)
        assert np.abs(taken - expected).mean() < 2
        lost.append(np.abs(taken - image).mean())
    assert lost[0] > lost[1] > lost[2] > 0.5


def test_a_sensor_of_low_resolution_averages_pixels():
    y, x = np.mgrid[:12, :16]
    board = (255.0 * ((x + y) % 2)).astype(np.float32)
    np.testing.assert_allclose(downsampled(board, 0.5), 127.5)
    np.testing.assert_allclose(downsampled(np.repeat(board[..., None], 3, 2), 0.5), 127.5)
    np.testing.assert_allclose(taken_by(np.repeat(board[..., None], 3, 2), detail=0.5), 127.5, atol=0.5)
    ramp = np.repeat(np.arange(40, dtype=np.float32)[None], 40, 0)
    np.testing.assert_allclose(downsampled(ramp, 0.4)[:, 4:-4], ramp[:, 4:-4], atol=0.8)
    assert downsampled(ramp, 0.001).shape == (40, 40)  # of one pixel


@pytest.mark.parametrize("degrees", [0.0, 30.0, 45.0, 90.0, 120.0, 170.0])
def test_motion_blurs_along_its_direction(degrees: float):
    point = np.zeros((41, 41, 3), np.float32)
    point[20, 20] = 2200
    seen = taken_by(point, motion=(12.0, degrees))[..., 0]
    assert seen.max() < 255  # nothing was clipped
    assert abs(seen.sum() - 2200) <= (seen > 0).sum()  # whole levels lose less than one a pixel
    y, x = np.mgrid[-20:21, -20:21]
    middle = ((seen * x).sum() / seen.sum(), (seen * y).sum() / seen.sum())
    np.testing.assert_allclose(middle, 0, atol=0.1)
    spread = np.cov(np.stack([x.ravel(), y.ravel()]), aweights=seen.ravel())
    variances, axes = np.linalg.eigh(spread)
    found = math.degrees(math.atan2(axes[1, 1], axes[0, 1]))
    assert abs((found - degrees + 90) % 180 - 90) < 6
    # A line of 12 pixels and its ends: the variance of 11 to 14 equal places on a line, and none across it.
    assert 11**2 / 12 < variances[1] < 14**2 / 12
    assert variances[0] < 0.4


def test_motion_blur_keeps_the_brightness():
    for degrees in range(0, 180, 20):
        for length in (2.0, 3.0, 4.4, 5.0):
            taken = taken_by(plain(200, 100, 50), motion=(length, float(degrees)))
            np.testing.assert_allclose(taken, plain(200, 100, 50), atol=1)


def test_blur_has_its_sigma():
    taken = taken_by(edge(0, 200), blur=2.0)
    for column in range(14, 26):  # the edge lies half a pixel before the middle of column 20
        np.testing.assert_allclose(taken[15, column], 200 * below(column - 19.5, 2.0), atol=2)


def test_sharpening_adds_what_a_small_blur_removes():
    taken = taken_by(edge(50, 150), sharpen=0.8)
    for column in range(16, 24):
        original = 150.0 if column >= 20 else 50.0
        blurred = 50 + 100 * below(column - 19.5, 1.0)
        expected = original + 0.8 * (original - blurred)
        np.testing.assert_allclose(taken[15, column], expected, atol=1.5, err_msg=str(column))
    assert taken.max() > 165
    np.testing.assert_allclose(taken_by(plain(90, 90, 90), sharpen=1.5), 90, atol=1)


def test_effects_come_in_the_order_of_light_lens_sensor_and_file():
    """The lens does not blur the noise, and the file is compressed after the noise was added."""
    flat = plain(128, 128, 128, size=(64, 64))
    assert taken_by(flat, blur=2.0, noise=8.0).std() == pytest.approx(8, rel=0.05)
    assert taken_by(flat, grey=True, noise=8.0).std(axis=2).mean() > 3  # a sensor's noise has colours
    np.testing.assert_array_equal(
        taken_by(flat, noise=8.0, jpeg=40), taken_by(taken_by(flat, noise=8.0).astype(np.uint8), jpeg=40)
    )


@pytest.mark.parametrize("draw", [draw_camera, draw_degraded_camera])
def test_a_drawn_camera_depends_only_on_the_state_of_the_generator(draw: DrawCamera):
    rng = np.random.default_rng(5)
    state = copy.deepcopy(rng.bit_generator.state)
    first, second = draw(rng), draw(rng)
    assert first != second
    assert draw(np.random.default_rng(5)) == first
    rng.bit_generator.state = state
    assert (draw(rng), draw(rng)) == (first, second)
    assert draw(np.random.default_rng(6)) != first


USUAL = {"gain", "offset", "blur", "noise", "jpeg", "grey"}
FAULTS = {"gamma", "light", "detail", "motion", "sharpen"}


def shares(draw: DrawCamera) -> dict[str, float]:
    """Return the fraction of 500 cameras with each effect, and check the limits of all of them."""
    rng = np.random.default_rng(0)
    cameras = [draw(rng) for _ in range(500)]
    for camera in cameras:
        assert all(0.35 < gain < 1.7 for gain in camera.gain)
        assert camera.jpeg == 0 or 20 <= camera.jpeg <= 95
        assert 0.3 < camera.detail <= 1
        assert all(abs(side) <= 0.45 for side in camera.light)  # or the dark side would be below black
        assert replace(camera, gain=(1.0, 1.0, 1.0)) != camera
    return {
        name: float(np.mean([getattr(camera, name) != getattr(Camera(), name) for camera in cameras]))
        for name in USUAL | FAULTS
    }


def test_ordinary_cameras_have_ordinary_effects_and_degraded_ones_have_all():
    usual, degraded = shares(draw_camera), shares(draw_degraded_camera)
    assert {name for name, share in usual.items() if share} == USUAL
    for found in (usual, degraded):
        assert all(0.08 < share < 0.6 for name, share in found.items() if share and name in FAULTS)
        assert all(0.08 < found[name] < 0.6 for name in USUAL - {"gain", "offset"})
    assert {name for name, share in degraded.items() if share} == USUAL | FAULTS
