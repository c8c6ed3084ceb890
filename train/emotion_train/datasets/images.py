"""From a sample to what the frame encoder takes: pixels are read, cropped and weighed here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import (
    PreprocessSpec,
    center_window,
    crop,
    subject_window,
    union_patch_weights,
)
from emotion_train.datasets.base import Sample, SampleImage
from emotion_train.datasets.video import video_frames


def load_image(picture: SampleImage) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB.

    A picture file is taken as it is stored: a turn in its EXIF data is not applied, as boxes are given in
    stored pixels. A moment of a video is the frame shown at `picture.seconds` after the first one, upright.

    Raises:
        EmotionError: the file is missing, broken or ends before that moment.

    """
    if picture.seconds is not None:
        return video_frames(picture.path, [picture.seconds])[0]
    return _image(picture.path)


def prepare_sample(sample: Sample, spec: PreprocessSpec) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """What the frame encoder takes for a sample.

    Returns images (T, S, S, 3) uint8 RGB and patch_weights (T, G) float32 in [0, 1], the share of each patch
    that the subject covers. A picture that stands several times in the sample is read once.

    spec.window "center": the paper's centre crop. "subject": the runtime's window around the subject; around
    the largest of several people, whose weights still count all of them; the centre crop, with weights of
    zero, of a frame with nobody in it.

    Raises:
        EmotionError: a picture cannot be read.

    """
    cut = {picture: _cut(pixels, picture, spec) for picture, pixels in _loaded(sample.images)}
    images, weights = zip(*(cut[picture] for picture in sample.images), strict=True)
    return np.stack(images), np.stack(weights)


def _loaded(pictures: Sequence[SampleImage]) -> Iterator[tuple[SampleImage, NDArray[np.uint8]]]:
    """Every different picture with its pixels; a video is opened once for all of its moments."""
    moments: dict[Path, list[SampleImage]] = {}
    for picture in dict.fromkeys(pictures):
        if picture.seconds is None:
            yield picture, _image(picture.path)
        else:
            moments.setdefault(picture.path, []).append(picture)
    for path, shown in moments.items():
        yield from zip(shown, video_frames(path, [p.seconds or 0.0 for p in shown]), strict=True)


def _cut(
    pixels: NDArray[np.uint8], picture: SampleImage, spec: PreprocessSpec
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The window of a picture, (S, S, 3) uint8 RGB, and its patch weights, (G,) float32."""
    height, width = pixels.shape[:2]
    if spec.window == "subject" and picture.boxes:
        largest = max(picture.boxes, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
        window = subject_window(largest, height, width, spec)
    else:
        window = center_window(height, width, spec)
    return crop(pixels, window, spec), union_patch_weights(picture.boxes, window, spec)


def _image(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except FileNotFoundError as error:
        raise EmotionError(f"no picture {path}: was it moved since the data set was read?") from error
    # Pillow's decoders of broken files raise more than OSError.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise EmotionError(f"picture {path} cannot be decoded ({error}): get a whole copy of it") from error
