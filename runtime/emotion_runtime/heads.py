"""Linear heads: features to probabilities of emotions, or to valence, arousal and dominance."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from emotion_runtime.bundle import Bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.manifest import Activation, Head
from emotion_runtime.vectors import l2_normalise


@dataclass(frozen=True, slots=True)
class LinearHead:
    """Computes `activation((f / |f| @ weight.T + bias) / temperature)`.

    A zero-shot head has the same form, with text embeddings as weights. A regression has the activation
    "identity" and the units of its targets.

    Attributes:
        labels: C names.
        weight: (C, D) float32.
        bias: (C,) float32.
        activation: Function applied to the logits.
        temperature: Divides the logits.
        abstain: No label is shown if its probability is below this threshold.
    """

    labels: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: Activation
    temperature: float
    abstain: float = 0.0

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return predictions (P, C) for features (P, D) of any length; rows of a softmax sum to 1."""
        return activate(l2_normalise(features) @ self.weight.T + self.bias, self.activation, self.temperature)


def activate(
    logits: NDArray[np.floating], activation: Activation, temperature: float = 1.0
) -> NDArray[np.float64]:
    """Turn logits (P, C) into predictions (P, C) float64.

    Args:
        logits: (P, C).
        activation: "softmax" and "sigmoid" give probabilities; "identity" gives the logits themselves.
        temperature: Divides the logits first.
    """
    scaled = np.asarray(logits, np.float64) / temperature
    if activation == "identity":
        return scaled
    if activation == "sigmoid":
        # The logistic function, in a form that does not overflow.
        return np.asarray(0.5 * (1 + np.tanh(scaled / 2)))
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def load_head(bundle: Bundle, name: str | None = None) -> LinearHead:
    """Load a head that predicts emotions.

    Args:
        bundle: The bundle that has the head.
        name: Name of the head in the bundle. None: the bundle's default.

    Raises:
        EmotionError: The bundle has no head of that name, or it is a regression.
    """
    heads = bundle.manifest.heads
    emotion_heads = [key for key, head in heads.items() if head.activation != "identity"]
    chosen = bundle.manifest.default_head if name is None else name
    if chosen in heads and chosen not in emotion_heads:
        raise EmotionError(
            f"head {chosen!r} of bundle {bundle.manifest.name} predicts values, not emotions: "
            f"choose one of {', '.join(emotion_heads)}"
        )
    if chosen not in heads:
        raise EmotionError(
            f"head {chosen!r}: bundle {bundle.manifest.name} has none of this name: choose one of "
            f"{', '.join(emotion_heads)}"
        )
    return read_head(bundle.folder, heads[chosen])


def load_affect_head(bundle: Bundle) -> LinearHead | None:
    """Load the head that predicts valence, arousal or dominance; return None if the bundle has none."""
    name = bundle.manifest.affect_head
    return None if name is None else read_head(bundle.folder, bundle.manifest.heads[name])


def read_head(folder: Path, head: Head) -> LinearHead:
    """Read a head of a manifest from the folder of its bundle."""
    tensors = load_file(folder / head.file)
    return LinearHead(
        tuple(head.labels),
        tensors["weight"],
        tensors["bias"],
        head.activation,
        head.temperature,
        head.abstain,
    )
