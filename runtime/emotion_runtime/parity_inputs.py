"""The batches of the parity check: the people of the demo, noise, and every size that is ever run.

Shapes: F images, P people, G patches, S side of an image, T frames of a clip, D embedding.
"""

from collections.abc import Iterable, Sequence
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import Feeds
from emotion_runtime.backends.buckets import Limits
from emotion_runtime.preprocess import PreprocessSpec, center_window, crop, patch_weights
from emotion_runtime.sources.demo import head_boxes, read_demo
from emotion_runtime.subject import plan_crops

_DEMO_FRAMES, _DEMO_STEP = 16, 5


def frame_encoder_feeds(spec: PreprocessSpec, limits: Limits) -> list[list[Feeds]]:
    """Return three batches for the frame encoder of every size that is ever run; always the same.

    The images of the first one are crops of the demo's people, and noise; the patch weights of the persons
    cover a head, nothing (zeros), random patches, or the whole image. The other two are the same crops of the
    whole frame, once with one person of the demo as the subject and once with the other.

    Args:
        spec: How images are cropped and resized.
        limits: The largest batch.
    """
    rng = np.random.default_rng(7)
    frames = [
        np.ascontiguousarray(frame.image[:, :, ::-1])  # RGB
        for frame in islice(read_demo(_DEMO_STEP), _DEMO_FRAMES)
    ]
    height, width = frames[0].shape[:2]
    people = plan_crops(head_boxes(), height, width, spec)
    crops = [crop(image, window, spec) for image in frames for window in people.windows]
    crops.insert(2, rng.integers(0, 256, crops[0].shape, dtype=np.uint8))
    weights = [
        *people.patch_weights,
        np.zeros(spec.patches, np.float32),
        rng.random(spec.patches, np.float32),
        np.ones(spec.patches, np.float32),
    ]
    endless_crops, endless_weights = cycle(crops), cycle(weights)
    shared, subjects = _shared_crops(frames, spec)
    endless_shared = cycle(shared)
    groups: list[list[Feeds]] = []
    for f, p in limits.sizes():
        # From the last image to the first, so that a person is not always in the image of the same number.
        index = np.arange(p, dtype=np.int64)[::-1] % f  # (P,)
        alone = frame_feed(islice(endless_crops, f), index, islice(endless_weights, p))
        together = list(islice(endless_shared, f))
        swapped = (islice(cycle(turned), p) for turned in (subjects, subjects[::-1]))
        groups.append([alone, *(frame_feed(together, index, each) for each in swapped)])
    return groups


def frame_feed(
    crops: Iterable[NDArray[np.uint8]], index: NDArray[np.int64], weights: Iterable[NDArray[np.float32]]
) -> Feeds:
    """Return a batch for the frame encoder from crops, the crop of each person, and their patch weights."""
    return {
        "images": np.stack(list(crops)),  # (F, S, S, 3)
        "frame_index": index,  # (P,)
        "patch_weights": np.stack(list(weights)),  # (P, G)
    }


def _shared_crops(
    frames: Sequence[NDArray[np.uint8]], spec: PreprocessSpec
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.float32]]]:
    """Return crops (S, S, 3) of whole frames, and the patch weights (G,) of both people in each of them."""
    height, width = frames[0].shape[:2]
    above = (width - height) // 2  # a square frame, of which the crop loses only the margin
    window = center_window(width, width, spec)
    squares = (np.pad(image, ((above, width - height - above), (0, 0), (0, 0))) for image in frames)
    moved = [(x1, y1 + above, x2, y2 + above) for x1, y1, x2, y2 in head_boxes()]
    return [crop(square, window, spec) for square in squares], [
        patch_weights(box, window, spec) for box in moved
    ]


def clip_feeds(embeddings: NDArray[np.float32], frames: int, persons: int, rounds: int) -> list[Feeds]:
    """Return `rounds` batches (persons, T, D) for the temporal encoder, drawn from embeddings (N, D)."""
    rng = np.random.default_rng([2, persons])
    return [
        {"embeddings": embeddings[rng.integers(0, len(embeddings), (persons, frames))]} for _ in range(rounds)
    ]
