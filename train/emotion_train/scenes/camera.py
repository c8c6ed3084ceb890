"""Effects of light and camera on an image, to which a model should be robust."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

RgbImage = NDArray[np.uint8]  # (H, W, 3)
_GREY = np.array([[0.299], [0.587], [0.114]], np.float32)  # OpenCV's weights of red, green and blue


@dataclass(frozen=True, slots=True)
class Camera:
    """Light and camera of one clip; the defaults do not change an image.

    Attributes:
        gain: Factors of red, green and blue.
        offset: Grey levels added to every pixel.
        gamma: Exponent of values in [0, 1]; above 1 is darker.
        light: Additional light at the right and at the lower edge, as a fraction of that in the middle.
        detail: Resolution of the sensor, as a fraction of the image's width and height.
        motion: Motion blur: length in pixels and direction in degrees.
        blur: Sigma of the lens blur, pixels.
        sharpen: Strength of the sharpening filter, as a factor of the fine detail.
        noise: Sigma of the sensor noise, grey levels.
        jpeg: JPEG quality, 0 for no compression.
        grey: Greyscale instead of colour.
    """

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: float = 0.0
    gamma: float = 1.0
    light: tuple[float, float] = (0.0, 0.0)
    detail: float = 1.0
    motion: tuple[float, float] = (0.0, 0.0)
    blur: float = 0.0
    sharpen: float = 0.0
    noise: float = 0.0
    jpeg: int = 0
    grey: bool = False


def draw_camera(rng: np.random.Generator) -> Camera:
    """Draw an ordinary camera: usual light, colour, noise and compression."""
    return Camera(
        gain=_tinted(rng, (0.7, 1.25), (0.9, 1.1)),
        offset=float(rng.uniform(-20, 20)),
        blur=float(rng.uniform(0.3, 1.4)) if rng.random() < 0.3 else 0.0,
        noise=float(rng.uniform(1, 10)) if rng.random() < 0.5 else 0.0,
        jpeg=int(rng.integers(30, 96)) if rng.random() < 0.5 else 0,
        grey=bool(rng.random() < 0.15),
    )


def draw_degraded_camera(rng: np.random.Generator) -> Camera:
    """Draw a camera in bad light that has every fault in a part of the cases."""
    sides = rng.uniform(-0.45, 0.45, 2)
    return Camera(
        gain=_tinted(rng, (0.5, 1.35), (0.8, 1.2)),
        offset=float(rng.uniform(-30, 30)),
        gamma=float(rng.uniform(0.6, 1.8)) if rng.random() < 0.4 else 1.0,
        light=(float(sides[0]), float(sides[1])) if rng.random() < 0.4 else (0.0, 0.0),
        detail=float(rng.uniform(0.35, 0.8)) if rng.random() < 0.25 else 1.0,
        motion=(float(rng.uniform(2, 5)), float(rng.uniform(0, 180))) if rng.random() < 0.15 else (0.0, 0.0),
        blur=float(rng.uniform(0.5, 2.2)) if rng.random() < 0.25 else 0.0,
        sharpen=float(rng.uniform(0.3, 1.5)) if rng.random() < 0.3 else 0.0,
        noise=float(rng.uniform(4, 20)) if rng.random() < 0.4 else 0.0,
        jpeg=int(rng.integers(20, 60)) if rng.random() < 0.4 else 0,
        grey=bool(rng.random() < 0.25),
    )


def _tinted(
    rng: np.random.Generator, bright: tuple[float, float], tint: tuple[float, float]
) -> tuple[float, float, float]:
    red, green, blue = (rng.uniform(*bright) * rng.uniform(*tint, 3)).tolist()
    return red, green, blue


def apply_camera(view: NDArray[np.float32], camera: Camera, rng: np.random.Generator) -> RgbImage:
    """Take an image of a view.

    Args:
        view: (H, W, 3) float32 RGB, about 0 to 255.
        camera: The effects.
        rng: Draws the noise.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    view = view * np.asarray(camera.gain, np.float32) + np.float32(camera.offset)
    if camera.gamma != 1:
        view = with_gamma(view, camera.gamma)
    if camera.light != (0, 0):
        view = view * light_gradient(camera.light, view.shape)[..., None]
    if camera.grey:
        view = np.repeat(view @ _GREY, 3, axis=2)
    if camera.detail < 1:
        view = downsampled(view, camera.detail)
    if camera.motion[0] > 0:
        view = np.asarray(cv2.filter2D(view, -1, _streak(*camera.motion)), np.float32)
    if camera.blur:
        view = np.asarray(cv2.GaussianBlur(view, (0, 0), camera.blur), np.float32)
    if camera.sharpen:
        view = view + np.float32(camera.sharpen) * (view - cv2.GaussianBlur(view, (0, 0), 1.0))
    if camera.noise:
        view = view + rng.standard_normal(view.shape, np.float32) * np.float32(camera.noise)
    image = np.clip(view, 0, 255).astype(np.uint8)
    if camera.jpeg:
        _, packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, camera.jpeg])
        image = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
    return np.ascontiguousarray(image)


def downsampled(image: NDArray[np.float32], detail: float) -> NDArray[np.float32]:
    """Reduce the resolution of an image, keeping its size.

    Args:
        image: (H, W) or (H, W, C) float32.
        detail: Remaining resolution, as a fraction of width and height.
    """
    height, width = image.shape[:2]
    small = (max(round(width * detail), 1), max(round(height * detail), 1))
    reduced = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(reduced, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def with_gamma(image: NDArray[np.float32], gamma: float) -> NDArray[np.float32]:
    """Apply a gamma curve to grey levels 0 to 255; see `Camera.gamma`."""
    return np.asarray(255 * (np.clip(image, 0, 255) / 255) ** np.float32(gamma), np.float32)


def light_gradient(light: tuple[float, float], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the factors (H, W) of light from one side, 1 in the middle; see `Camera.light`."""
    across, down = (
        np.linspace(-edge, edge, size, dtype=np.float32)
        for edge, size in zip(light, shape[1::-1], strict=True)
    )
    return np.asarray(1 + across[None] + down[:, None], np.float32)


def _streak(length: float, degrees: float) -> NDArray[np.float32]:
    """Return a motion blur kernel, which sums to 1."""
    size = 2 * int(np.ceil(length / 2)) + 1
    middle = size // 2
    kernel = np.zeros((size, size), np.float32)
    reach = length / 2 * np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))])
    start, stop = (np.round(middle + sign * reach).astype(int).tolist() for sign in (-1, 1))
    cv2.line(kernel, start, stop, 1.0, 1)
    return np.asarray(kernel / kernel.sum(), np.float32)
