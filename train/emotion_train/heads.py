"""Linear heads on L2-normalised features, as files that a bundle takes over.

Two kinds: a probe fitted on labels, and a zero-shot bank of text embeddings.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_runtime.manifest import Activation

# Names of the files.
PROBE, AFFECT_PROBE, ZERO_SHOT, CATEGORIES = "probe", "affect", "zero_shot", "categories"


class HeadCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a head is, beside its numbers.

    checkpoint_sha256: of the model whose features it reads. features: of its temporal encoder ("video", which
    the runtime has) or of its frame encoder ("image"). text_tower_sha256: of the tower that gave a zero-shot
    bank. dataset: what it was fitted or measured on. abstain, experimental: of `manifest.Head`.
    """

    kind: Literal["probe", "zero_shot"]
    labels: list[str]
    activation: Activation
    temperature: float
    metrics: dict[str, float]
    checkpoint_sha256: str
    features: Literal["video", "image"] = "video"
    text_tower_sha256: str | None = None
    dataset: str | None = None
    abstain: float = 0.0
    experimental: bool = False


@dataclass(frozen=True, slots=True)
class LinearHead:
    """`activation((features @ weight.T + bias) / temperature)`; weight (C, D), bias (C,), float32."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    card: HeadCard


def save_head(folder: Path, name: str, head: LinearHead) -> None:
    """Write NAME.safetensors and NAME.json, each whole or not at all.

    Raises:
        EmotionError: the folder cannot be written to.

    """
    # safetensors writes memory as it lies, and scikit-learn's coefficients lie column by column.
    tensors = {"weight": np.ascontiguousarray(head.weight), "bias": np.ascontiguousarray(head.bias)}
    write_atomically(folder / f"{name}.safetensors", save(tensors))
    card = msgspec.json.format(msgspec.json.encode(head.card), indent=2)
    write_atomically(folder / f"{name}.json", card + b"\n")


def load_head(folder: Path, name: str) -> LinearHead:
    """Read what `save_head` wrote.

    Raises:
        EmotionError: a file is missing or does not hold a head.

    """
    numbers, card = folder / f"{name}.safetensors", folder / f"{name}.json"
    if not numbers.is_file() or not card.is_file():
        raise EmotionError(
            f"no head {name!r} in {folder}: expected {numbers.name} and {card.name} of emotion-train "
            "fit-probe"
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
