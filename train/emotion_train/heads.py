"""Linear heads on L2-normalised video features, as files that a bundle takes over.

Two kinds: a probe fitted on labels, and a zero-shot bank of text embeddings.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch.nn import functional as F

from emotion_runtime.errors import EmotionError
from emotion_train.model import EmotionCLIP
from emotion_train.tokenizer import tokenize

TEMPLATES = (
    "{}",
    "I feel {}.",
    "I am feeling {} right now.",
    "A person who feels {}.",
    "This is full of {}.",
)

# How people write when they feel so; the class name alone is a rare word in talk.
EKMAN_PHRASES: dict[str, tuple[str, ...]] = {
    "anger": ("anger", "so angry", "furious", "I hate this, shut up!"),
    "disgust": ("disgust", "disgusted", "gross", "That is disgusting, eww."),
    "fear": ("fear", "afraid", "scared", "I am terrified, this is scary."),
    "happiness": ("happiness", "so happy", "joy", "I love this, thank you, it is great!"),
    "sadness": ("sadness", "so sad", "sorry", "I am sad and lonely, I miss you."),
    "surprise": ("surprise", "surprised", "wow", "Oh wow, really? I had no idea!"),
    "neutral": ("neutral", "calm", "nothing special", "The meeting is on Tuesday at the office."),
}


class HeadCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a head is, beside its numbers. checkpoint_sha256: of the model whose features it reads."""

    kind: Literal["probe", "zero_shot"]
    labels: list[str]
    activation: Literal["softmax", "sigmoid"]
    temperature: float
    metrics: dict[str, float]
    checkpoint_sha256: str


@dataclass(frozen=True, slots=True)
class LinearHead:
    """`activation((features @ weight.T + bias) / temperature)`; weight (C, D), bias (C,), float32."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    card: HeadCard


def save_head(folder: Path, name: str, head: LinearHead) -> None:
    """Write NAME.safetensors and NAME.json."""
    folder.mkdir(parents=True, exist_ok=True)
    # safetensors writes memory as it lies, and scikit-learn's coefficients lie column by column.
    tensors = {"weight": np.ascontiguousarray(head.weight), "bias": np.ascontiguousarray(head.bias)}
    save_file(tensors, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(head.card), indent=2) + b"\n"
    )


def load_head(folder: Path, name: str) -> LinearHead:
    """Read what `save_head` wrote.

    Raises:
        EmotionError: a file is missing or does not hold a head.
    """
    numbers, card = folder / f"{name}.safetensors", folder / f"{name}.json"
    if not numbers.is_file() or not card.is_file():
        raise EmotionError(
            f"no head {name!r} in {folder}: expected {numbers.name} and {card.name} of fit_probe.py"
        )
    try:
        described = msgspec.json.decode(card.read_bytes(), type=HeadCard)
    except msgspec.DecodeError as error:
        raise EmotionError(f"{card}: {error}") from error
    try:
        tensors = load_file(numbers)
    except SafetensorError as error:
        raise EmotionError(f"{numbers} is no safetensors file ({error}): fit the head again") from error
    found = {key: (value.dtype.name, *value.shape) for key, value in tensors.items()}
    classes = len(described.labels)
    width = found.get("weight", ())[2:]  # (D,) of a matrix
    if len(width) != 1 or found != {
        "weight": ("float32", classes, *width),
        "bias": ("float32", classes),
    }:
        raise EmotionError(
            f"{numbers}: tensors {found}, expected weight ({classes}, D) and bias ({classes},) of float32"
        )
    return LinearHead(tensors["weight"], tensors["bias"], described)


def zero_shot_head(model: EmotionCLIP, checkpoint_sha256: str, metrics: dict[str, float]) -> LinearHead:
    """The seven Ekman classes from text alone, at the temperature that the contrastive loss learned."""
    weight = zero_shot_weight(model, EKMAN_PHRASES)
    temperature = float(model.logit_scale.detach().neg().exp())
    card = HeadCard("zero_shot", list(EKMAN_PHRASES), "softmax", temperature, metrics, checkpoint_sha256)
    return LinearHead(weight, np.zeros(len(weight), np.float32), card)


@torch.no_grad()
def zero_shot_weight(model: EmotionCLIP, phrases: dict[str, tuple[str, ...]]) -> NDArray[np.float32]:
    """(C, D) float32: per class the mean of its prompts' normalised text features, normalised again."""
    rows = []
    for variants in phrases.values():
        prompts = [template.format(phrase) for phrase in variants for template in TEMPLATES]
        tokens = tokenize(prompts).to(model.logit_scale.device)
        features = F.normalize(model.encode_text(tokens).float(), dim=-1)
        rows.append(F.normalize(features.mean(0), dim=0))
    return np.asarray(torch.stack(rows).cpu().numpy(), np.float32)
