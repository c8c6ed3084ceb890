"""What graphs are compared and calibrated on: crops of real people, and random pictures with any subject.

Everything is cut by the runtime's own code, from frames that the runtime's own detector looked at: a graph
sees here what it will see in use. Shapes: F pictures, P persons, G patches, S side of a picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.detectors import load_detector
from emotion_runtime.encoder import Batch
from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec, Window, crop, patch_weights
from emotion_runtime.sources import open_source
from emotion_runtime.subject import plan_crops

# (pictures, persons): a graph with a number of either baked in fails at one of them.
SIZES: Final = ((1, 1), (2, 1), (1, 3), (2, 3), (1, 8), (2, 8))
_PICTURES_A_ROUND = sum(pictures for pictures, _ in SIZES)

DEMO: Final = "demo"  # the source whose two portraits come with the runtime

_FRAMES, _STEP = 12, 12  # of each video: how many frames, and every which one
_MOST_VIEWS = 72  # of all videos together: a large model takes a fifth of a second for each
_RANDOM_VIEWS = 9
_SCENE = (360, 640)  # height, width of the drawn scenes, pixels


@dataclass(frozen=True, slots=True)
class SampleCrop:
    """A crop as the frame encoder takes it, and whom it could be asked about.

    image: (S, S, 3) uint8 RGB. subjects: (N, G) float32, patch weights of N >= 1 persons in it.
    """

    image: NDArray[np.uint8]
    subjects: NDArray[np.float32]


def real_crops(videos: Sequence[str], spec: PreprocessSpec) -> list[SampleCrop]:
    """Crops of the people that the detector finds in the demo's frames and in videos, evenly over all.

    Raises:
        EmotionError: a video cannot be read, or nobody is found in it.

    """
    detect = load_detector("face")
    views: list[SampleCrop] = []
    for uri in (DEMO, *videos):
        found: list[SampleCrop] = []
        with open_source(uri) as source:
            for frame in islice(source, 0, _FRAMES * _STEP, _STEP):
                found += _views_of(frame.image, detect(frame.image).boxes, spec)
        if not found:
            raise EmotionError(
                f"video {uri}: no face was found in {_FRAMES} of its frames, expected people close to the "
                "camera: give another video"
            )
        views += found
    if len(views) <= _MOST_VIEWS:
        return views
    return [views[i] for i in np.linspace(0, len(views) - 1, _MOST_VIEWS).round().astype(int)]


def random_crops(spec: PreprocessSpec) -> list[SampleCrop]:
    """Crops of noise and of drawn scenes, each with four subjects that stand for all there can be.

    A box that covers the crop in part, nobody (zeros), any weights, the whole crop.
    """
    rng = np.random.default_rng(0)
    views = []
    for number in range(_RANDOM_VIEWS):
        noise = rng.integers(0, 256, (*_SCENE, 3), dtype=np.uint8)
        scene = _drawn_scene(rng) if number % 3 else noise
        window = _random_window(rng, spec)
        subjects = np.stack(
            [
                patch_weights(_random_box(rng, window), window, spec),
                np.zeros(spec.patches, np.float32),
                rng.random(spec.patches, np.float32),
                np.ones(spec.patches, np.float32),
            ]
        )
        views.append(SampleCrop(crop(scene, window, spec), subjects))
    return views


def batches(views: Sequence[SampleCrop]) -> dict[tuple[int, int], list[Batch]]:
    """Batches by (pictures, persons) of SIZES; every view is used, and its subjects in turn."""
    rounds = -(-len(views) // _PICTURES_A_ROUND)
    turns = [cycle(view.subjects) for view in views]
    order = cycle(range(len(views)))
    return {
        (pictures, persons): [
            _batch(views, turns, list(islice(order, pictures)), persons) for _ in range(rounds)
        ]
        for pictures, persons in SIZES
    }


def _batch(
    views: Sequence[SampleCrop],
    turns: Sequence[Iterator[NDArray[np.float32]]],
    chosen: Sequence[int],
    persons: int,
) -> Batch:
    # From the last picture to the first, so that one person of two pictures is not always in picture 0.
    index = np.array([(len(chosen) - 1 - person) % len(chosen) for person in range(persons)], np.int64)
    weights = [next(turns[chosen[i]]) for i in index]
    return Batch(np.stack([views[i].image for i in chosen]), index, np.stack(weights))


def _views_of(
    image_bgr: NDArray[np.uint8], boxes: NDArray[np.float32], spec: PreprocessSpec
) -> list[SampleCrop]:
    """One view a window of the frame, with the persons that the runtime would ask it about."""
    height, width = image_bgr.shape[:2]
    plain = [(float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in boxes]
    subjects = plan_crops(plain, height, width, spec)
    image_rgb = np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8)
    return [
        SampleCrop(crop(image_rgb, window, spec), subjects.patch_weights[subjects.frame_index == number])
        for number, window in enumerate(subjects.windows)
    ]


def _drawn_scene(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Smooth shading with edges: what pictures have and noise has not."""
    height, width = _SCENE
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(x / a + y / b) for a, b in rng.uniform(15, 90, (3, 2))]
    scene: NDArray[np.uint8] = np.clip(128 + 100 * np.stack(waves, axis=-1), 0, 255).astype(np.uint8)
    for _ in range(12):
        center = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        color = [int(v) for v in rng.integers(0, 256, 3)]
        cv2.circle(scene, center, int(rng.integers(10, 70)), color, thickness=-1)
    return scene


def _random_window(rng: np.random.Generator, spec: PreprocessSpec) -> Window:
    """Of a head somewhere in the scene."""
    height, width = _SCENE
    side = rng.uniform(0.15, 0.4) * min(height, width)
    x, y = rng.uniform(0, width - side), rng.uniform(0, height - side)
    return plan_crops([(x, y, x + side, y + 1.2 * side)], height, width, spec).windows[0]


def _random_box(rng: np.random.Generator, window: Window) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = window.source
    left, right = np.sort(rng.uniform(x1 - 10, x2, 2))
    top, bottom = np.sort(rng.uniform(y1 - 10, y2, 2))
    return left, top, right + 8, bottom + 8
