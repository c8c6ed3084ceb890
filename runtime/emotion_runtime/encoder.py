"""The two encoders of a model: frames to embeddings of persons, and clips of embeddings to features."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import Backend
from emotion_runtime.preprocess import PreprocessSpec, Window, crop, surroundings
from emotion_runtime.subject import Subjects


@dataclass(frozen=True, slots=True)
class Batch:
    """Input of the frame encoder: the persons of several frames, in order.

    Attributes:
        images: Crops (F, S, S, 3) uint8 RGB.
        frame_index: The crop of each person, (P,) int64.
        patch_weights: Covered fraction of each patch, (P, G) float32.
    """

    images: NDArray[np.uint8]
    frame_index: NDArray[np.int64]
    patch_weights: NDArray[np.float32]


class FrameEncoder:
    """Runs the graph `frame_encoder` on crops of persons.

    Args:
        backend: The opened graph.
        spec: The preprocessing that the model was trained with.
    """

    def __init__(self, backend: Backend, spec: PreprocessSpec) -> None:
        self.spec = spec
        self._backend = backend

    def gather(self, views: Sequence[tuple[NDArray[np.uint8], Subjects]]) -> Batch:
        """Crop the windows of several frames, from one camera or many, into one batch.

        Args:
            views: Each frame (H, W, 3) uint8 BGR with the persons to encode in it, at least one in total.
        """
        crops: list[NDArray[np.uint8]] = []
        index: list[NDArray[np.int64]] = []
        for image_bgr, subjects in views:
            index.append(subjects.frame_index + len(crops))
            crops.extend(self._crop(image_bgr, window) for window in subjects.windows)
        weights = [subjects.patch_weights for _, subjects in views]
        return Batch(np.stack(crops), np.concatenate(index), np.concatenate(weights))

    def _crop(self, image_bgr: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
        """Crop a window of a frame, of which only what the window needs becomes RGB."""
        part, moved = surroundings(image_bgr, window)
        return crop(np.asarray(cv2.cvtColor(part, cv2.COLOR_BGR2RGB), np.uint8), moved, self.spec)

    def embed(self, batch: Batch) -> NDArray[np.float32]:
        """Return embeddings (P, D) float32, not normalised, in the order of the batch's persons."""
        outputs = self._backend.run(
            {
                "images": batch.images,
                "frame_index": batch.frame_index,
                "patch_weights": batch.patch_weights,
            }
        )
        embeddings: NDArray[np.float32] = outputs["embeddings"]
        return embeddings


class TemporalEncoder:
    """Runs the graph `temporal_encoder` on clips of embeddings."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def features(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return features (P, D) float32, not normalised.

        Args:
            clips: P >= 1 clips (T, D) float32, oldest embedding first.
        """
        features: NDArray[np.float32] = self._backend.run({"embeddings": np.stack(clips)})["features"]
        return features
