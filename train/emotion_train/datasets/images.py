"""Prepare samples for the frame encoder: read images, crop them and compute patch weights."""

from collections.abc import Iterator, Sequence
from pathlib import Path  # noqa: TC003 - of a local annotation

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.media.images import read_rgb
from emotion_runtime.preprocess import (
    PreprocessSpec,
    center_window,
    crop,
    subject_window,
    union_patch_weights,
)
from emotion_train.datasets.base import Sample, SampleImage
from emotion_train.datasets.video import video_frames


def load_image(image: SampleImage) -> NDArray[np.uint8]:
    """Read the pixels of an image.

    An image file is read as by `emotion_runtime.media.read_image`: upright as its EXIF data say, which is
    what tools for annotation show, and 16-bit grey scaled. Of a video, this is the frame shown at
    `image.seconds` from the start of the medium, upright and of square pixels.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        EmotionError: The file is missing, corrupt or ends before that time.
    """
    if image.seconds is not None:
        return video_frames(image.path, [image.seconds])[0]
    return read_rgb(image.path)


def prepare_sample(sample: Sample, spec: PreprocessSpec) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Read and crop the images of a sample. An image that occurs several times is read once.

    With `spec.window` "center" this is the paper's centre crop. With "subject" it is the runtime's window
    around the subject; if the subject is several people, around the largest, while the patch weights count
    all of them; and without a subject the centre crop with patch weights of zero.

    Args:
        sample: The sample.
        spec: How the model's input is cut.

    Returns:
        Images (T, S, S, 3) uint8 RGB, and patch weights (T, G) float32 in [0, 1], the fraction of each
        patch that the subject covers.

    Raises:
        EmotionError: An image cannot be read.
    """
    crops = {image: _cut(pixels, image, spec) for image, pixels in _loaded(sample.images)}
    images, weights = zip(*(crops[image] for image in sample.images), strict=True)
    return np.stack(images), np.stack(weights)


def _loaded(images: Sequence[SampleImage]) -> Iterator[tuple[SampleImage, NDArray[np.uint8]]]:
    """Read every distinct image; a video is opened once for all of its frames."""
    by_video: dict[Path, list[SampleImage]] = {}
    for image in dict.fromkeys(images):
        if image.seconds is None:
            yield image, read_rgb(image.path)
        else:
            by_video.setdefault(image.path, []).append(image)
    for path, frames in by_video.items():
        yield from zip(frames, video_frames(path, [frame.seconds or 0.0 for frame in frames]), strict=True)


def _cut(
    pixels: NDArray[np.uint8], image: SampleImage, spec: PreprocessSpec
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the crop (S, S, 3) uint8 RGB and the patch weights (G,) float32 of an image."""
    height, width = pixels.shape[:2]
    if spec.window == "subject" and image.boxes:
        largest = max(image.boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
        window = subject_window(largest, height, width, spec)
    else:
        window = center_window(height, width, spec)
    return crop(pixels, window, spec), union_patch_weights(image.boxes, window, spec)
