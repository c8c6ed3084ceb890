"""Look at photos: frames that have no frame before or after them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.inputs import check_image
from emotion_runtime.media import read_image
from emotion_runtime.pipeline import Pipeline
from emotion_runtime.types import Frame, Person

TOGETHER = 8  # photos that go through the encoder together


def look_at(pipeline: Pipeline, images: Sequence[Any]) -> list[list[Person]]:
    """Return the people in each of several photos.

    Args:
        pipeline: Gets each photo as a source of its own, which is forgotten at once.
        images: (H, W, 3) uint8 BGR, or paths of image files.

    Raises:
        EmotionError: An image is something else, or a file cannot be read.
    """
    found: list[list[Person]] = []
    for start in range(0, len(images), TOGETHER):
        frames = [
            Frame(_read(image), 0, 0.0, f"<photo {number}>", still=True)
            for number, image in enumerate(images[start : start + TOGETHER])
        ]
        try:
            found += [event.persons for event in pipeline.step_all(frames)]
        finally:
            for frame in frames:
                pipeline.forget(frame.source)
    return found


def _read(image: Any) -> NDArray[np.uint8]:
    """Return the pixels of a photo that is given as an array or as a path."""
    if isinstance(image, str | Path):
        return read_image(image)
    return check_image(image)
