"""The frozen encoder of a bundle, in ONNX Runtime on the CPU and without torch."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.bundle import load_bundle
from emotion_runtime.encoder import TemporalEncoder
from emotion_runtime.names import Precision
from emotion_runtime.open_backend import open_encoders
from emotion_runtime.preprocess import PreprocessSpec
from emotion_runtime.vectors import l2_normalise
from emotion_train.probing.features import FeatureKind, Features


class BundleEncoder:
    """The graphs of a bundle.

    Args:
        bundle: Name or folder of the bundle.
        precision: Precision of the graphs.

    Attributes:
        bundle: The bundle.

    Raises:
        EmotionError: The bundle is missing or broken, or has no graphs in this precision.
    """

    def __init__(self, bundle: str | Path, precision: Precision = "fp32") -> None:
        self.bundle = load_bundle(bundle)
        self._frames, temporal = open_encoders("cpu", self.bundle, precision)
        self._temporal = TemporalEncoder(temporal)

    @property
    def spec(self) -> PreprocessSpec:
        """How its images are preprocessed."""
        return self.bundle.manifest.preprocess

    def features(
        self, images: NDArray[np.uint8], patch_weights: NDArray[np.float32], kind: FeatureKind
    ) -> Features:
        """Return features as described in `ClipEncoder.features`."""
        if kind == "image":
            images, patch_weights = images[:, :1], patch_weights[:, :1]
        clips, frames = images.shape[:2]
        fed = {
            "images": images.reshape(-1, *images.shape[2:]),
            "frame_index": np.arange(clips * frames),
            "patch_weights": patch_weights.reshape(clips * frames, -1),
        }
        embeddings = self._frames.run(fed)["embeddings"].reshape(clips, frames, -1)
        if kind == "image":
            return l2_normalise(embeddings[:, 0]).astype(np.float32)
        total = self.bundle.manifest.clip_frames
        repeated = embeddings[:, np.arange(total) * frames // total]
        return l2_normalise(self._temporal.features(list(repeated))).astype(np.float32)
