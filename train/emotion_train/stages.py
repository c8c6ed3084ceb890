"""The three stages of pre-training a small model: text tower, stem, scenes.

A model that starts from CLIP skips the first two.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from emotion_runtime.errors import EmotionError
from emotion_train.config import Scenes, StemWarmup, TextWarmup
from emotion_train.data.clips import ClipBatch, ClipDataset, SceneMix
from emotion_train.data.faces import Faces
from emotion_train.data.labels import EKMAN, rows_by_class
from emotion_train.data.text import SentenceBank
from emotion_train.data.tight import TightFaces
from emotion_train.encode import encode_clips
from emotion_train.losses import sentiment_guided_contrastive_loss
from emotion_train.model import EmotionCLIP
from emotion_train.normalise import normalise
from emotion_train.schedule import parameter_groups
from emotion_train.trainer import Stage

MAX_LOGIT_SCALE = math.log(100)  # the authors clamp to [0, ln 100] after each step


class _TextBatches(Dataset[Tensor]):
    """Item i: rows (B,) int64 of the sentences of step i, classes evened out by the root of their counts."""

    def __init__(self, bank: SentenceBank, *, seed: int, batch: int) -> None:
        self.seed, self.batch = seed, batch
        counts = np.bincount(bank.labels, minlength=len(EKMAN))
        weights = counts[bank.labels] ** -0.5
        self.weights = weights / weights.sum()

    def __getitem__(self, index: int) -> Tensor:
        rng = np.random.default_rng([self.seed, index])
        return torch.from_numpy(rng.choice(len(self.weights), self.batch, p=self.weights))


def text_stage(
    model: EmotionCLIP, head: nn.Linear, bank: SentenceBank, config: TextWarmup, *, seed: int
) -> Stage:
    """The text tower tells the emotions of sentences apart; `head` (D -> 7) is thrown away afterwards."""
    device = head.weight.device
    labels = torch.from_numpy(bank.labels)
    towers = [(n, p) for n, p in model.backbone.named_parameters() if not n.startswith("visual.")]

    def loss(rows: Tensor) -> tuple[Tensor, dict[str, float]]:
        logits = head(model.encode_text(bank.tokens[rows].to(device)))
        target = labels[rows].to(device)
        return F.cross_entropy(logits, target, label_smoothing=0.1), {"accuracy": _accuracy(logits, target)}

    groups = parameter_groups([*towers, *head.named_parameters()], lr=config.lr, weight_decay=0.1)
    return Stage(
        "text",
        config.steps,
        _TextBatches(bank, seed=seed, batch=config.batch),
        loss,
        len,
        torch.optim.AdamW(groups, betas=(0.9, 0.98)),
        (model.backbone, head),
    )


def stem_stage(model: EmotionCLIP, head: nn.Linear, faces: Faces, config: StemWarmup, *, seed: int) -> Stage:
    """The stem, pooled, tells the emotions of tight faces; `head` (width -> 7) is thrown away afterwards."""
    stem = model.backbone.visual.stem
    if stem is None:
        raise EmotionError(
            "[stem_warmup] needs a preset with a convolutional stem: remove it from the config"
        )
    spec = model.config.preprocess
    device = head.weight.device

    def loss(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, float]]:
        images, labels = (tensor.to(device) for tensor in batch)
        pixels = normalise(images, spec).contiguous(memory_format=torch.channels_last)
        logits = head(stem(pixels).mean((2, 3)))
        return F.cross_entropy(logits, labels, label_smoothing=0.1), {"accuracy": _accuracy(logits, labels)}

    named = [*stem.named_parameters(), *head.named_parameters()]
    groups = parameter_groups(named, lr=config.lr, weight_decay=config.weight_decay)
    return Stage(
        "stem",
        config.steps,
        TightFaces(faces, seed=seed, batch=config.batch, size=config.size),
        loss,
        lambda batch: len(batch[1]),
        torch.optim.AdamW(groups),
        (stem, head),
    )


def scene_stage(model: EmotionCLIP, faces: Faces, bank: SentenceBank, config: Scenes, *, seed: int) -> Stage:
    """Contrastive pre-training: clips of a person against sentences of the person's emotion (Eq. 5-7)."""
    mix = SceneMix(config.people, config.face_share, config.body_boxes, config.wide_windows)
    device = model.logit_scale.device
    bank = bank.confident(config.sentence_confidence)
    rows = rows_by_class(bank.labels)
    locked = None if config.train_text else _encode_bank(model, bank.tokens)
    if locked is not None:
        anchors = torch.stack([F.normalize(locked[r].mean(0), dim=0) for r in rows])
        for parameter in _text_parameters(model):
            parameter.requires_grad_(False)

    def loss(batch: ClipBatch) -> tuple[Tensor, dict[str, float]]:
        with torch.no_grad():
            model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        drawn = _draw_sentences(rows, batch)
        video = F.normalize(
            encode_clips(model, batch.images.to(device), batch.patch_weights.to(device)), dim=-1
        )
        text = (
            locked[drawn] if locked is not None else model.encode_text(bank.tokens[drawn].to(device)).float()
        )
        value = sentiment_guided_contrastive_loss(
            video,
            F.normalize(text, dim=-1),
            bank.sentiment[drawn].to(device),
            logit_scale=model.logit_scale.exp(),
            beta=config.beta,
            kl_direction=config.kl_direction,
        )
        figures = {"scale": model.logit_scale.exp().item()}
        if locked is not None:
            figures["zero_shot"] = _accuracy(video @ anchors.T, batch.labels.to(device))
        return value, figures

    groups = parameter_groups(
        model.named_parameters(),
        lr=config.lr,
        weight_decay=config.weight_decay,
        slow="stem",
        factor=config.stem_lr,
    )
    return Stage(
        "scenes",
        config.steps,
        ClipDataset(
            faces,
            model.config.preprocess,
            mix,
            seed=seed,
            scenes_per_batch=config.scenes_per_batch,
            distinct_frames=config.distinct_frames,
        ),
        loss,
        lambda batch: len(batch.labels),
        torch.optim.AdamW(groups, betas=(0.9, 0.98)),
        (model,),
        warmup=config.warmup,
    )


def _draw_sentences(rows: list[NDArray[np.int64]], batch: ClipBatch) -> Tensor:
    """A sentence of each person's emotion: (B,) row numbers, a function of the batch's seed alone."""
    rng = np.random.default_rng([*batch.seed, 1])
    return torch.tensor([int(rng.choice(rows[label])) for label in batch.labels.tolist()], dtype=torch.int64)


@torch.no_grad()
def _encode_bank(model: EmotionCLIP, tokens: Tensor, batch: int = 512) -> Tensor:
    """(N, D) features of all sentences under the locked tower."""
    was_training = model.training
    model.eval()
    device = model.logit_scale.device
    parts = [model.encode_text(tokens[i : i + batch].to(device)) for i in range(0, len(tokens), batch)]
    model.train(was_training)
    return torch.cat(parts).float()


def _text_parameters(model: EmotionCLIP) -> list[nn.Parameter]:
    return [p for n, p in model.backbone.named_parameters() if not n.startswith("visual.")]


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(-1) == labels).float().mean().item()
