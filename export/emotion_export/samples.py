"""The images for the parity check and for calibration: crops of real people, and random images.

All crops are made with the runtime's own detector and cropping code, so a graph gets the same inputs as in
use. Shapes: F images, P people, G patches, S side of an image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import Feeds
from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import EmotionError
from emotion_runtime.parity_inputs import frame_feed
from emotion_runtime.preprocess import PreprocessSpec, center_window, crop, patch_weights
from emotion_runtime.sources import open_source
from emotion_runtime.subject import plan_crops

# (images, people): a graph with a fixed number of either fails at one of these sizes.
SIZES: Final = ((1, 1), (2, 1), (1, 3), (2, 3), (1, 8), (2, 8))
_IMAGES_PER_ROUND = sum(images for images, _ in SIZES)

DEMO: Final = "demo"  # the source with two portraits that the runtime includes

_FRAMES, _STEP = 12, 12  # number of frames of each video, and the distance between them
_MAX_CROPS = 72  # of all videos together: a large model takes 0.2 s for each
_RANDOM_CROPS = 9
_SCENE = (360, 640)  # height, width of the drawn scenes, pixels


@dataclass(frozen=True, slots=True)
class SampleCrop:
    """A crop for the frame encoder, and the people in it.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        subjects: (N, G) float32, patch weights of N >= 1 people in the crop.
    """

    image: NDArray[np.uint8]
    subjects: NDArray[np.float32]


def real_crops(videos: Sequence[str], spec: PreprocessSpec) -> list[SampleCrop]:
    """Return crops of the people that the detector finds in the demo's frames and in videos, evenly sampled.

    Raises:
        EmotionError: A video cannot be read, or no face is found in it.
    """
    detect = load_detector("face")
    crops: list[SampleCrop] = []
    for uri in (DEMO, *videos):
        found: list[SampleCrop] = []
        with open_source(uri) as source:
            for frame in islice(source, 0, _FRAMES * _STEP, _STEP):
                found += _crops_in(frame.image, detect(frame.image).boxes, spec)
        if not found:
            raise EmotionError(
                f"video {uri}: no face was found in {_FRAMES} of its frames, expected people close to the "
                "camera: use another video"
            )
        crops += found
    if len(crops) <= _MAX_CROPS:
        return crops
    return [crops[i] for i in np.linspace(0, len(crops) - 1, _MAX_CROPS).round().astype(int)]


def random_crops(spec: PreprocessSpec) -> list[SampleCrop]:
    """Return crops of noise and of drawn scenes, each with four subjects that cover all cases.

    The subjects are a box that covers a part of the crop, nobody (zeros), arbitrary weights, and the whole
    crop.
    """
    rng = np.random.default_rng(0)
    window = center_window(*_SCENE, spec)
    x1, y1, x2, y2 = window.source
    crops = []
    for i in range(_RANDOM_CROPS):
        noise = rng.integers(0, 256, (*_SCENE, 3), dtype=np.uint8)
        scene = _drawn_scene(rng) if i % 3 else noise
        left, right = np.sort(rng.uniform(x1, x2, 2))
        top, bottom = np.sort(rng.uniform(y1, y2, 2))
        subjects = np.stack(
            [
                patch_weights((left, top, right, bottom), window, spec),
                np.zeros(spec.patches, np.float32),
                rng.random(spec.patches, np.float32),
                np.ones(spec.patches, np.float32),
            ]
        )
        crops.append(SampleCrop(crop(scene, window, spec), subjects))
    return crops


def batches(crops: Sequence[SampleCrop]) -> list[list[Feeds]]:
    """Return batches of each of SIZES; all crops are used, and their subjects in turn."""
    rounds = -(-len(crops) // _IMAGES_PER_ROUND)
    turns = [cycle(sample.subjects) for sample in crops]
    order = cycle(range(len(crops)))
    return [
        [_batch(crops, turns, list(islice(order, images)), persons) for _ in range(rounds)]
        for images, persons in SIZES
    ]


def _batch(
    crops: Sequence[SampleCrop],
    turns: Sequence[Iterator[NDArray[np.float32]]],
    chosen: Sequence[int],
    persons: int,
) -> Feeds:
    # From the last image to the first, so that a single person is not always in image 0.
    index = np.array([(len(chosen) - 1 - person) % len(chosen) for person in range(persons)], np.int64)
    weights = [next(turns[chosen[i]]) for i in index]
    return frame_feed((crops[i].image for i in chosen), index, weights)


def _crops_in(
    image_bgr: NDArray[np.uint8], boxes: NDArray[np.float32], spec: PreprocessSpec
) -> list[SampleCrop]:
    """Return one crop per window of the frame, with the people that the runtime would encode in it."""
    height, width = image_bgr.shape[:2]
    plain = [(float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in boxes]
    subjects = plan_crops(plain, height, width, spec)
    image_rgb = np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8)
    return [
        SampleCrop(crop(image_rgb, window, spec), subjects.patch_weights[subjects.frame_index == i])
        for i, window in enumerate(subjects.windows)
    ]


def _drawn_scene(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return smooth shading with edges, which images have and noise does not."""
    height, width = _SCENE
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(x / a + y / b) for a, b in rng.uniform(15, 90, (3, 2))]
    scene: NDArray[np.uint8] = np.clip(128 + 100 * np.stack(waves, axis=-1), 0, 255).astype(np.uint8)
    for _ in range(12):
        center = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        color = [int(v) for v in rng.integers(0, 256, 3)]
        cv2.circle(scene, center, int(rng.integers(10, 70)), color, thickness=-1)
    return scene
