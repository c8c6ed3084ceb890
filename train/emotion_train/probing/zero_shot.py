"""Zero-shot heads: text embeddings instead of fitted weights, valid for one text tower only."""

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from emotion_runtime.errors import EmotionError
from emotion_train.heads import HeadCard, LinearHead
from emotion_train.language.phrases import EKMAN_PHRASES, TEMPLATES
from emotion_train.language.tokenizer import tokenize
from emotion_train.model import EmotionCLIP


def zero_shot_head(
    model: EmotionCLIP,
    checkpoint_sha256: str,
    metrics: dict[str, float],
    *,
    phrases: Mapping[str, tuple[str, ...]] = EKMAN_PHRASES,
    dataset: str | None = None,
    experimental: bool = False,
) -> LinearHead:
    """Build a head for classes given as text, with the temperature that the contrastive loss has learned.

    Args:
        model: Whose text tower embeds the prompts.
        checkpoint_sha256: Of the model's checkpoint, for the card.
        metrics: For the card.
        phrases: Phrases of each class.
        dataset: Data set it was measured on, for the card.
        experimental: Whether the card marks it as experimental.
    """
    weight = zero_shot_weight(model, phrases)
    card = HeadCard(
        kind="zero_shot",
        labels=list(phrases),
        activation="softmax",
        temperature=float(model.logit_scale.detach().neg().exp()),
        metrics=metrics,
        checkpoint_sha256=checkpoint_sha256,
        text_tower_sha256=text_tower_sha256(model),
        dataset=dataset,
        experimental=experimental,
    )
    return LinearHead(weight, np.zeros(len(weight), np.float32), card)


@torch.no_grad()
def zero_shot_weight(model: EmotionCLIP, phrases: Mapping[str, tuple[str, ...]]) -> NDArray[np.float32]:
    """Return (C, D) float32: the normalised mean of the normalised text features of each class's prompts."""
    rows = []
    for variants in phrases.values():
        prompts = [template.format(phrase) for phrase in variants for template in TEMPLATES]
        tokens = tokenize(prompts).to(model.logit_scale.device)
        features = F.normalize(model.encode_text(tokens).float(), dim=-1)
        rows.append(F.normalize(features.mean(0), dim=0))
    return np.asarray(torch.stack(rows).cpu().numpy(), np.float32)


def text_tower_sha256(model: EmotionCLIP) -> str:
    """Return a SHA-256 over names, shapes and values of the text tower's tensors, sorted by name.

    It stays the same if the tower is frozen in training, and does not depend on how the values are stored.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.backbone.state_dict().items()):
        if not name.startswith("visual."):
            values = np.ascontiguousarray(tensor.detach().cpu().float().numpy(), "<f4")
            digest.update(f"{name} {values.shape}\n".encode())
            digest.update(values.tobytes())
    return digest.hexdigest()


def check_tower(head: LinearHead, model: EmotionCLIP) -> None:
    """Refuse a zero-shot head of another text tower: its embeddings do not match this model's features.

    Raises:
        EmotionError: The head is not a zero-shot head, or comes from another text tower.
    """
    card = head.card
    if card.kind != "zero_shot":
        raise EmotionError(f"the head was fitted on labels (kind {card.kind}): expected a zero-shot head")
    found = text_tower_sha256(model)
    if card.text_tower_sha256 != found:
        raise EmotionError(
            f"the zero-shot head comes from text tower {(card.text_tower_sha256 or 'unknown')[:12]}, the "
            f"checkpoint has {found[:12]}: create the head again with emotion-train evaluate "
            "--zero-shot --out DIR"
        )
