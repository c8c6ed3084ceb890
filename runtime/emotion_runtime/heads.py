"""Linear heads: from features to probabilities of emotions, or to valence, arousal and dominance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from emotion_runtime.bundle import Bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import Activation
from emotion_runtime.vectors import l2_normalise


@dataclass(frozen=True, slots=True)
class LinearHead:
    """`activation((f / |f| @ weight.T + bias) / temperature)`.

    labels: C names. weight: (C, D) float32. bias: (C,) float32. A zero-shot bank is the same with
    text embeddings for weights; a regression has the activation "identity" and the units of its targets.
    abstain: a label less probable than this is better not given.
    """

    labels: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: Activation
    temperature: float
    abstain: float = 0.0

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Answers (P, C) to features (P, D) of any length; each row of a softmax sums to 1."""
        return activate(l2_normalise(features) @ self.weight.T + self.bias, self.activation, self.temperature)


def activate(
    logits: NDArray[np.floating], activation: Activation, temperature: float = 1.0
) -> NDArray[np.float64]:
    """Logits (P, C) to answers (P, C) float64: probabilities, or, with "identity", the values themselves."""
    scaled = np.asarray(logits, np.float64) / temperature
    if activation == "identity":
        return scaled
    if activation == "sigmoid":
        # The logistic function without overflow.
        return np.asarray(0.5 * (1 + np.tanh(scaled / 2)))
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def load_head(bundle: Bundle, name: str | None = None) -> LinearHead:
    """A head of a bundle that answers with emotions. name: its key; None: the bundle's default.

    Raises:
        EmotionError: the bundle has no head of that name, or it is a regression.

    """
    heads = bundle.manifest.heads
    emotions = [key for key, head in heads.items() if head.activation != "identity"]
    chosen = bundle.manifest.default_head if name is None else name
    if chosen in heads and chosen not in emotions:
        raise EmotionError(
            f"head {chosen!r} of bundle {bundle.manifest.name} gives values, not emotions: "
            f"choose one of {', '.join(emotions)}"
        )
    if chosen not in heads:
        raise EmotionError(
            f"bundle {bundle.manifest.name} has no head {chosen!r}: choose one of {', '.join(emotions)}"
        )
    return _read(bundle, chosen)


def load_affect_head(bundle: Bundle) -> LinearHead | None:
    """The head that answers with valence, arousal or dominance; None: the bundle has none."""
    name = bundle.manifest.affect_head
    return None if name is None else _read(bundle, name)


def _read(bundle: Bundle, name: str) -> LinearHead:
    head = bundle.manifest.heads[name]
    tensors = load_file(bundle.head_path(name))
    return LinearHead(
        tuple(head.labels),
        tensors["weight"],
        tensors["bias"],
        head.activation,
        head.temperature,
        head.abstain,
    )
