"""Zero-shot heads: a bank of text embeddings instead of fitted weights, bound to the tower that gave them."""

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
    """Classes from text alone, at the temperature that the contrastive loss learned."""
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
    """(C, D) float32: per class the mean of its prompts' normalised text features, normalised again."""
    rows = []
    for variants in phrases.values():
        prompts = [template.format(phrase) for phrase in variants for template in TEMPLATES]
        tokens = tokenize(prompts).to(model.logit_scale.device)
        features = F.normalize(model.encode_text(tokens).float(), dim=-1)
        rows.append(F.normalize(features.mean(0), dim=0))
    return np.asarray(torch.stack(rows).cpu().numpy(), np.float32)


def text_tower_sha256(model: EmotionCLIP) -> str:
    """SHA-256 over names, shapes and numbers of the text tower's tensors, in order of their names.

    A tower that is locked in training keeps it; how the numbers are stored on disk does not matter.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.backbone.state_dict().items()):
        if not name.startswith("visual."):
            numbers = np.ascontiguousarray(tensor.detach().cpu().float().numpy(), "<f4")
            digest.update(f"{name} {numbers.shape}\n".encode())
            digest.update(numbers.tobytes())
    return digest.hexdigest()


def check_tower(head: LinearHead, model: EmotionCLIP) -> None:
    """Refuse a bank of another text tower: its embeddings mean nothing to this model's features.

    Raises:
        EmotionError: the head is no bank, or its tower is another.

    """
    card = head.card
    if card.kind != "zero_shot":
        raise EmotionError(f"the head was fitted on labels ({card.kind}): expected a zero-shot bank")
    found = text_tower_sha256(model)
    if card.text_tower_sha256 != found:
        raise EmotionError(
            f"the zero-shot bank is of text tower {(card.text_tower_sha256 or 'unknown')[:12]}, the "
            f"checkpoint has {found[:12]}: make the bank anew with emotion-train evaluate --zero-shot "
            "--out DIR"
        )
