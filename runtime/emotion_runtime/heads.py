"""Linear heads: from features to probabilities of emotions."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from emotion_runtime.bundle import Bundle
from emotion_runtime.errors import EmotionError

_TINY = 1e-12  # keeps a feature of zeros at zeros


@dataclass(frozen=True, slots=True)
class LinearHead:
    """`activation((f / |f| @ weight.T + bias) / temperature)`.

    labels: C names. weight: (C, D) float32. bias: (C,) float32. A zero-shot bank is the same with
    text embeddings for weights.
    """

    labels: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: Literal["softmax", "sigmoid"]
    temperature: float

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities (P, C) of features (P, D) of any length; each row of a softmax sums to 1."""
        wide = features.astype(np.float64)
        normalised = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), _TINY)
        logits = (normalised @ self.weight.T + self.bias) / self.temperature  # (P, C)
        if self.activation == "sigmoid":
            # The logistic function without overflow.
            return np.asarray(0.5 * (1 + np.tanh(logits / 2)))
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def load_head(bundle: Bundle, name: str | None = None) -> LinearHead:
    """A head of a bundle. name: its key in the manifest; None: the bundle's default.

    Raises:
        EmotionError: the bundle has no head of that name.

    """
    heads = bundle.manifest.heads
    chosen = bundle.manifest.default_head if name is None else name
    if chosen not in heads:
        raise EmotionError(
            f"bundle {bundle.manifest.name} has no head {chosen!r}: choose one of {', '.join(heads)}"
        )
    head = heads[chosen]
    tensors = load_file(bundle.head_path(chosen))
    return LinearHead(
        tuple(head.labels), tensors["weight"], tensors["bias"], head.activation, head.temperature
    )
