"""Linear probes on frozen, L2-normalised video features (paper Sec. 4), and what they are worth."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from emotion_runtime.errors import EmotionError
from emotion_train.data.labels import EKMAN, missing_classes
from emotion_train.data.scene_sets import Clip
from emotion_train.encode import encode_clips
from emotion_train.model import EmotionCLIP

Features = NDArray[np.float32]
Labels = NDArray[np.int64]

CALIBRATION_BINS = 15


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """features: (N, D) float32, L2-normalised. labels: (N,) int64 in `EKMAN` order."""

    features: Features
    labels: Labels


@torch.inference_mode()
def extract(model: EmotionCLIP, clips: Iterable[Clip], *, batch: int = 32) -> FeatureSet:
    """Encode clips in eval mode, fp32.

    Raises:
        EmotionError: there is no clip.

    """
    model.eval()
    device = model.logit_scale.device
    features: list[Features] = []
    labels: list[int] = []
    waiting: list[Clip] = []

    def flush() -> None:
        images = torch.from_numpy(np.stack([clip.images for clip in waiting])).to(device)
        weights = torch.from_numpy(np.stack([clip.patch_weights for clip in waiting])).to(device)
        features.append(F.normalize(encode_clips(model, images, weights), dim=-1).cpu().numpy())
        labels.extend(clip.label for clip in waiting)
        waiting.clear()

    for clip in clips:
        waiting.append(clip)
        if len(waiting) == batch:
            flush()
    if waiting:
        flush()
    if not labels:
        raise EmotionError("no clip to encode: take more faces")
    return FeatureSet(np.concatenate(features), np.array(labels, np.int64))


def fit_logistic(train: FeatureSet, *, c: float, seed: int) -> tuple[Features, Features]:
    """Multinomial logistic regression, inverse regularisation c: weight (C, D) and bias (C,) float32.

    Raises:
        EmotionError: a class has no clip.

    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  (slow to import)

    missing = missing_classes(train.labels)
    if missing:
        raise EmotionError(f"no clip of {', '.join(missing)} to fit the probe on: take more training faces")
    classifier = LogisticRegression(C=c, max_iter=2000, random_state=seed)
    classifier.fit(train.features, train.labels)
    return np.asarray(classifier.coef_, np.float32), np.asarray(classifier.intercept_, np.float32)


def probabilities(logits: NDArray[np.floating], temperature: float = 1.0) -> NDArray[np.float64]:
    """Softmax of logits (N, C) / temperature."""
    scaled = logits.astype(np.float64) / temperature
    exponent = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=1, keepdims=True))


def fit_temperature(logits: NDArray[np.floating], labels: Labels) -> float:
    """The temperature of least negative log likelihood (Guo et al. 2017); fit on validation data."""
    from scipy.optimize import minimize_scalar  # noqa: PLC0415

    def loss(log_temperature: float) -> float:
        chosen = probabilities(logits, float(np.exp(log_temperature)))[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(chosen, 1e-12)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def score(probability: NDArray[np.float64], labels: Labels) -> dict[str, float]:
    """accuracy, balanced_accuracy, ece (15 equal bins of confidence) and recall_<class>."""
    predicted = probability.argmax(axis=1)
    recalls = {
        name: float((predicted[labels == i] == i).mean())
        for i, name in enumerate(EKMAN)
        if (labels == i).any()
    }
    return {
        "accuracy": float((predicted == labels).mean()),
        "balanced_accuracy": float(np.mean(list(recalls.values()))),
        "ece": expected_calibration_error(probability, labels),
        **{f"recall_{name}": value for name, value in recalls.items()},
    }


def expected_calibration_error(probability: NDArray[np.float64], labels: Labels) -> float:
    """Mean gap between confidence and accuracy over 15 equal bins, weighted by their size."""
    confidence = probability.max(axis=1)
    right = probability.argmax(axis=1) == labels
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = [
        (bins == b).mean() * abs(right[bins == b].mean() - confidence[bins == b].mean())
        for b in range(CALIBRATION_BINS)
        if (bins == b).any()
    ]
    return float(sum(gaps))


def swap_figures(first: NDArray[np.intp], second: NDArray[np.intp], a: Labels, b: Labels) -> dict[str, float]:
    """Does the answer follow the subject? For pairs of people of different emotions in one picture.

    first, second: (N,) predictions with the first and the second person as subject. a, b: their labels.
    changed: the two answers differ. own: answers that are right. other: answers that name the neighbour's
    emotion. both_right: pairs with two right answers.
    """
    return {
        "changed": float((first != second).mean()),
        "own": float(((first == a).mean() + (second == b).mean()) / 2),
        "other": float(((first == b).mean() + (second == a).mean()) / 2),
        "both_right": float(((first == a) & (second == b)).mean()),
    }
