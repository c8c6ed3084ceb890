"""The warm-up stages of a small model: its text tower, then the stem of its vision tower."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from emotion_runtime.errors import EmotionError
from emotion_train.language.labels import EKMAN
from emotion_train.language.sentence_bank import SentenceBank
from emotion_train.model import EmotionCLIP
from emotion_train.model.encode import normalise
from emotion_train.scenes.aligned_faces import AlignedFaces
from emotion_train.scenes.faces import Faces
from emotion_train.training.loop import SimpleObjective, Stage
from emotion_train.training.optim import Schedule, parameter_groups
from emotion_train.training.parallel import World, wrap
from emotion_train.training.stage_config import StemWarmup, TextWarmup
from emotion_train.training.supervision import SMOOTHING


class _TextBatches(Dataset[Tensor]):
    """Item i is the rows (B,) int64 of the sentences of step i, drawn by the root of their class's count."""

    def __init__(self, bank: SentenceBank, *, seed: int, batch: int) -> None:
        self.seed, self.batch = seed, batch
        counts = np.bincount(bank.labels, minlength=len(EKMAN))
        weights = counts[bank.labels] ** -0.5
        self.weights = weights / weights.sum()

    def __getitem__(self, index: int) -> Tensor:
        rng = np.random.default_rng([self.seed, index])
        return torch.from_numpy(rng.choice(len(self.weights), self.batch, p=self.weights))


class _TextClassifier(nn.Module):
    """Maps tokens (B, 77) to logits (B, 7) of the emotion that a sentence expresses."""

    def __init__(self, model: EmotionCLIP, head: nn.Linear) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, head

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone.encode_text(tokens))
        return logits


class _StemClassifier(nn.Module):
    """Maps normalised images (B, 3, H, W) to logits (B, 7)."""

    def __init__(self, stem: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.stem, self.head = stem, head

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stem(pixels).mean((2, 3)))
        return logits


def text_stage(
    model: EmotionCLIP, head: nn.Linear, bank: SentenceBank, config: TextWarmup, *, seed: int, world: World
) -> Stage:
    """Return the warm-up of the text tower: it classifies the emotions of sentences.

    Args:
        model: The model to train.
        head: Classifier of text features (D) into 7 emotions, discarded after training.
        bank: The sentences.
        config: Of the stage.
        seed: Of the stage.
        world: The processes that train together.
    """
    device = head.weight.device
    labels = torch.from_numpy(bank.labels)
    classify = wrap(_TextClassifier(model, head), world, unused=True)  # the vision tower takes no part

    def loss(rows: Tensor) -> tuple[Tensor, dict[str, float]]:
        logits = classify(bank.tokens[rows].to(device))
        target = labels[rows].to(device)
        return F.cross_entropy(logits, target, label_smoothing=0.1), {"accuracy": _accuracy(logits, target)}

    named = [*text_parameters(model).items(), *head.named_parameters()]
    groups = parameter_groups(named, lr=config.lr, weight_decay=0.1)
    return Stage(
        "text",
        _TextBatches(bank, seed=seed, batch=config.batch),
        SimpleObjective(loss),
        torch.optim.AdamW(groups, betas=(0.9, 0.98)),
        (model.backbone, head),
        Schedule(config.steps, short_warmup(config.steps)),
    )


def stem_stage(
    model: EmotionCLIP, head: nn.Linear, faces: Faces, config: StemWarmup, *, seed: int, world: World
) -> Stage:
    """Return the warm-up of the stem: its pooled features classify the emotions of aligned faces.

    Args:
        model: The model to train.
        head: Classifier of stem features (width) into 7 emotions, discarded after training.
        faces: The training faces.
        config: Of the stage.
        seed: Of the stage.
        world: The processes that train together.

    Raises:
        EmotionError: The model has no stem, or several processes train.
    """
    stem = checked_stem(model, world)
    spec = model.config.preprocess
    device = head.weight.device
    classify = wrap(_StemClassifier(stem, head), world)

    def loss(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, float]]:
        images, votes = (tensor.to(device) for tensor in batch)
        logits = classify(normalise(images, spec).contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits, votes, label_smoothing=SMOOTHING)
        return loss, {"accuracy": _accuracy(logits, votes.argmax(1))}

    named = [*stem.named_parameters(), *head.named_parameters()]
    groups = parameter_groups(named, lr=config.lr, weight_decay=config.weight_decay)
    return Stage(
        "stem",
        AlignedFaces(faces, seed=seed, batch=config.batch, size=config.size),
        SimpleObjective(loss),
        torch.optim.AdamW(groups),
        (stem, head),
        Schedule(config.steps, short_warmup(config.steps)),
        rows=lambda batch: len(batch[1]),
    )


def checked_stem(model: EmotionCLIP, world: World) -> nn.Module:
    """Return the convolutional stem of a model, which can be warmed up.

    Raises:
        EmotionError: The model has none, or several processes train.
    """
    stem = model.backbone.visual.stem
    if stem is None:
        raise EmotionError(
            "[stem_warmup] needs a preset with a convolutional stem: remove it from the config"
        )
    if world.size > 1:
        raise EmotionError(
            f"[stem_warmup] in {world.size} processes: its BatchNorm would see only a part of the batch: "
            "warm up in one process, then start from its checkpoint with [start]"
        )
    return stem


def short_warmup(steps: int, warmup: int = 60) -> int:
    """Return the steps of rising learning rate, at most a quarter of a short stage."""
    return min(warmup, steps // 4 + 1)


def text_parameters(model: EmotionCLIP) -> dict[str, nn.Parameter]:
    """Return the parameters of the text tower, by name."""
    return {n: p for n, p in model.backbone.named_parameters() if not n.startswith("visual.")}


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(-1) == labels).float().mean().item()
