"""Random inputs of the graphs of a bundle: their values matter neither for speed nor for parity."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.preprocess import PreprocessSpec

Feeds = dict[str, NDArray[Any]]
SHARED, OWN = "one crop", "own crops"  # of the people of a call


def frame_feeds(spec: PreprocessSpec, persons: int, images: int = 1) -> Feeds:
    """Return inputs of a frame encoder for a number of people in a number of images."""
    rng = np.random.default_rng(persons)
    return {
        "images": rng.integers(0, 256, (images, spec.size, spec.size, 3), dtype=np.uint8),
        "frame_index": np.arange(persons, dtype=np.int64) % images,
        "patch_weights": rng.integers(0, 2, (persons, spec.patches)).astype(np.float32),
    }


def feeds_of(graph: str, crops: str, spec: PreprocessSpec, clip: tuple[int, int], persons: int) -> Feeds:
    """Return inputs of a graph.

    Args:
        graph: Name of the graph.
        crops: `SHARED` or `OWN`, for the frame encoder.
        spec: Preprocessing of the model.
        clip: Frames of a clip and length of an embedding.
        persons: Number of people.
    """
    if graph == "frame_encoder":
        return frame_feeds(spec, persons, persons if crops == OWN else 1)
    rng = np.random.default_rng(persons)
    return {"embeddings": rng.standard_normal((persons, *clip)).astype(np.float32)}
