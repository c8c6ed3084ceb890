"""The frozen encoder of a checkpoint, in torch."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.model import EmotionCLIP
from emotion_train.model.encode import encode_clips, normalise
from emotion_train.probing.features import FeatureKind, Features


class TorchEncoder:
    """A model in fp32, which is set to eval mode whenever it encodes.

    Args:
        model: The model, on any device.
    """

    def __init__(self, model: EmotionCLIP) -> None:
        self.model = model

    @property
    def spec(self) -> PreprocessSpec:
        """How its images are preprocessed."""
        return self.model.config.preprocess

    @torch.inference_mode()
    def features(
        self, images: NDArray[np.uint8], patch_weights: NDArray[np.float32], kind: FeatureKind
    ) -> Features:
        """Return features as described in `ClipEncoder.features`."""
        self.model.eval()
        device = self.model.logit_scale.device
        pixels, weights = torch.from_numpy(images).to(device), torch.from_numpy(patch_weights).to(device)
        if kind == "video":
            embeddings = encode_clips(self.model, pixels, weights)
        else:
            embeddings = self.model.encode_frames(normalise(pixels[:, 0], self.spec), weights[:, 0])
        return np.asarray(F.normalize(embeddings.float(), dim=-1).cpu().numpy(), np.float32)
