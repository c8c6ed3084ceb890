"""The supervised term of scenes: what each training face should be called, and who has to call it so."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotion_train.language.labels import EKMAN
from emotion_train.model import EmotionCLIP
from emotion_train.model.normalise import normalise
from emotion_train.scenes.faces import Faces

# Logits of L2-normalised features are cosines times this: a softmax of bare cosines is nearly uniform.
SHARPNESS = 16.0
SMOOTHING = 0.1
SIZE = 64  # pixels of the tight faces that the stem is asked about


class Supervision(nn.Module):
    """A classifier of video features, thrown away afterwards, with its targets.

    The targets lie in the checkpoint, because the stem that they come from goes on learning.
    """

    targets: Tensor

    def __init__(self, embed_dim: int, faces: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embed_dim, len(EKMAN))
        self.register_buffer("targets", torch.zeros(faces, len(EKMAN)))  # (N, 7)

    def forward(self, video: Tensor) -> Tensor:
        """L2-normalised features (B, D) -> logits (B, 7)."""
        logits: Tensor = self.linear(SHARPNESS * video)
        return logits

    def set_targets(self, faces: Faces, answers: Tensor | None, share: float) -> None:
        """Smoothed labels, of which `share` gives way to `answers` (N, 7), probabilities."""
        labels = F.one_hot(torch.from_numpy(faces.labels), len(EKMAN)).float()
        labels = (1 - SMOOTHING) * labels + SMOOTHING / len(EKMAN)
        self.targets.copy_(labels if answers is None else (1 - share) * labels + share * answers)


@torch.inference_mode()
def stem_answers(model: EmotionCLIP, head: nn.Module, faces: Faces, *, batch: int = 256) -> Tensor:
    """What the warm stem with its classifier sees in every face, (N, 7) probabilities on the CPU.

    FER2013's labels are noisy and name one emotion where people see two; a stem that has seen each face in
    dozens of guises says so. Each face is seen twice, the second time as in a mirror.

    Raises:
        ValueError: the model has no stem.

    """
    stem = model.backbone.visual.stem
    if stem is None:
        raise ValueError("a model without a stem has no answers")
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
        seen = (
            head(stem(x.contiguous(memory_format=torch.channels_last)).mean((2, 3))).softmax(-1)
            for x in (pixels, pixels.flip(3))
        )
        parts.append(sum(seen) / 2)
    stem.train(was_training)
    return torch.cat(parts).cpu()
