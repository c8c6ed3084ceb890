"""Encode rendered views of faces, and measure how well the head can be seen in them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.preprocess import crop, patch_weights, subject_window
from emotion_runtime.quality import measure_quality
from emotion_runtime.types import Box, Quality, Track
from emotion_train.probing.features import ClipEncoder, Features
from emotion_train.scenes.faces import Faces
from emotion_train.scenes.views import Condition, View, views

BATCH = 32  # faces that are rendered and encoded together


@dataclass(frozen=True, slots=True)
class ViewFeatures:
    """Views of N faces in one condition, encoded.

    Attributes:
        features: (N, D) float32.
        quality: What the runtime measures on each view.
    """

    features: Features
    quality: tuple[Quality, ...]

    def mean_quality(self, name: str) -> float:
        """Return the mean of a field of the quality, over the views where it is measured."""
        values = [getattr(quality, name) for quality in self.quality]
        return float(np.mean([value for value in values if value is not None]))


def encode_views(
    encoder: ClipEncoder, faces: Faces, conditions: Mapping[str, Condition], *, seed: int
) -> dict[str, ViewFeatures]:
    """Encode every face in every condition; each view is the only image of its clip.

    Args:
        encoder: The frozen model.
        faces: N faces.
        conditions: Conditions by name.
        seed: Determines everything that is rendered.
    """
    features: dict[str, list[Features]] = {name: [] for name in conditions}
    quality: dict[str, list[Quality]] = {name: [] for name in conditions}
    for start in range(0, len(faces.labels), BATCH):
        rows = range(start, min(start + BATCH, len(faces.labels)))
        seen = [list(views(faces, row, conditions, seed)) for row in rows]
        for name, column in zip(conditions, zip(*seen, strict=True), strict=True):
            features[name].append(_encode(encoder, column))
            quality[name] += map(_quality, column)
    return {
        name: ViewFeatures(np.concatenate(parts), tuple(quality[name])) for name, parts in features.items()
    }


def _encode(encoder: ClipEncoder, column: tuple[View, ...]) -> Features:
    images, weights = zip(*(_cut(view, encoder) for view in column), strict=True)
    return encoder.features(np.stack(images)[:, None], np.stack(weights)[:, None], "video")


def _cut(view: View, encoder: ClipEncoder) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    height, width = view.image.shape[:2]
    # As in the runtime: the box of a person is clipped to the frame, see `emotion_runtime.detectors`.
    box = _clipped(view.box, height, width)
    window = subject_window(box, height, width, encoder.spec)
    return crop(view.image, window, encoder.spec), patch_weights(box, window, encoder.spec)


def _clipped(box: Box, height: int, width: int) -> Box:
    x1, y1, x2, y2 = box
    return max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)


def _quality(view: View) -> Quality:
    height, width = view.image.shape[:2]
    track = Track(1, _clipped(view.box, height, width), 1.0, head=view.box)
    return measure_quality(np.ascontiguousarray(view.image[..., ::-1]), track)
