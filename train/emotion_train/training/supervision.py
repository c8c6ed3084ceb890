"""The supervised term of scenes: soft targets of each training face, and the classifier that learns them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotion_train.language.labels import EKMAN
from emotion_train.model import EmotionCLIP
from emotion_train.model.encode import normalise
from emotion_train.scenes.faces import Faces

# Logits of L2-normalised features are cosines times this: a softmax of bare cosines is nearly uniform.
SHARPNESS = 16.0
SMOOTHING = 0.1
SIZE = 64  # pixels, side of the aligned faces that the stem classifies


class Supervision(nn.Module):
    """A classifier of video features with its targets, discarded after training.

    The targets are part of the checkpoint: they cannot be computed again, because the stem that they come
    from keeps learning.

    Attributes:
        targets: (faces, 7) float32, rows that sum to 1.
    """

    targets: Tensor

    def __init__(self, embed_dim: int, faces: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embed_dim, len(EKMAN))
        self.register_buffer("targets", torch.zeros(faces, len(EKMAN)))

    def forward(self, video: Tensor) -> Tensor:
        """Return logits (B, 7) of L2-normalised features (B, D)."""
        logits: Tensor = self.linear(SHARPNESS * video)
        return logits

    def set_targets(self, faces: Faces, predictions: Tensor | None, fraction: float) -> None:
        """Set the targets to smoothed votes, mixed with predictions.

        Args:
            faces: The training faces with the votes on them.
            predictions: (faces, 7) probabilities; None for votes alone.
            fraction: Fraction of the targets that the predictions make up.
        """
        votes = (1 - SMOOTHING) * torch.from_numpy(faces.votes) + SMOOTHING / len(EKMAN)
        self.targets.copy_(votes if predictions is None else (1 - fraction) * votes + fraction * predictions)


@torch.inference_mode()
def stem_predictions(model: EmotionCLIP, head: nn.Module, faces: Faces, *, batch: int = 256) -> Tensor:
    """Return what the warm stem and its classifier predict for every face, (faces, 7) float32 on the CPU.

    FER2013's labels are noisy and name one emotion where people see two. A stem that has seen each face in
    dozens of augmented versions predicts both. Each face is classified twice, the second time mirrored.

    Args:
        model: A model with a convolutional stem.
        head: Classifier of pooled stem features.
        faces: The training faces.
        batch: Faces in a forward pass.

    Raises:
        ValueError: The model has no stem.
    """
    stem = model.backbone.visual.stem
    if stem is None:
        raise ValueError("a model without a stem has no predictions")
    was_training = stem.training
    stem.eval()
    device = model.logit_scale.device
    parts = []
    for start in range(0, len(faces.labels), batch):
        grey = torch.from_numpy(faces.images[start : start + batch]).to(device)
        grey = F.interpolate(grey[:, None].float(), (SIZE, SIZE), mode="bilinear")
        pixels = normalise(
            grey.round().byte().permute(0, 2, 3, 1).expand(-1, -1, -1, 3), model.config.preprocess
        )
        both = (
            head(stem(x.contiguous(memory_format=torch.channels_last)).mean((2, 3))).softmax(-1)
            for x in (pixels, pixels.flip(3))
        )
        parts.append(sum(both) / 2)
    stem.train(was_training)
    return torch.cat(parts).cpu()
