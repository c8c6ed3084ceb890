"""Cameras: what drivers deliver besides ordinary frames."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from emotion_runtime.errors import SourceBroken
from emotion_runtime.sources import camera

BGR = np.full((4, 6, 3), (10, 20, 30), np.uint8)


class Driver:
    """A stand-in for `cv2.VideoCapture` that delivers the given images and then fails."""

    def __init__(self, images: Sequence[Any]) -> None:
        self._images = list(images)
        self.released = False

    def read(self) -> tuple[bool, Any]:
        image = self._images.pop(0) if self._images else (False, None)
        if isinstance(image, Exception):
            raise image
        return image if isinstance(image, tuple) else (True, image)

    def release(self) -> None:
        self.released = True


def delivered(*images: Any) -> tuple[list[np.ndarray], str]:
    driver, frames = Driver(images), []
    with pytest.raises(SourceBroken) as caught:
        frames.extend(frame.image for frame in camera.frames_of(driver, "0"))
    assert driver.released
    return frames, str(caught.value)


def test_empty_images_are_skipped() -> None:
    frames, message = delivered(None, BGR, np.zeros((0, 0, 3), np.uint8), None, BGR)
    assert len(frames) == 2
    assert "camera 0 failed after frame 1" in message


@pytest.mark.parametrize(
    ("image", "pixel"),
    [
        (np.full((4, 6), 77, np.uint8), [77, 77, 77]),
        (np.full((4, 6, 1), 77, np.uint8), [77, 77, 77]),
        (np.dstack([BGR, np.zeros((4, 6), np.uint8)]), [10, 20, 30]),
        (BGR, [10, 20, 30]),
    ],
)
def test_grey_and_bgra_become_bgr(image: np.ndarray, pixel: list[int]) -> None:
    (frame,), _ = delivered(image)
    assert (frame.shape, frame.dtype) == ((4, 6, 3), np.uint8)
    assert frame[2, 3].tolist() == pixel


@pytest.mark.parametrize("image", [np.zeros((4, 6), np.uint16), np.zeros((4, 6, 2), np.uint8), np.zeros(24)])
def test_other_images_break_the_source(image: np.ndarray) -> None:
    frames, message = delivered(BGR, image)
    assert len(frames) == 1
    assert "expected 8-bit grey, BGR or BGRA" in message


def test_error_of_the_driver_breaks_the_source() -> None:
    assert "camera 0 failed" in delivered(BGR, cv2.error("device lost"))[1]
