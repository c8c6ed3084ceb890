"""Heads against their formulas, written in plain Python."""

import math
from pathlib import Path

import numpy as np
import pytest

from emotion_runtime.bundle import load_bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.heads import LinearHead, load_head


def head(activation: str, temperature: float = 1.0) -> LinearHead:
    rng = np.random.default_rng(3)
    weight, bias = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    return LinearHead(("a", "b", "c"), weight, bias, activation, temperature)


def logits_of(linear: LinearHead, feature: np.ndarray) -> list[float]:
    length = math.sqrt(sum(float(x) ** 2 for x in feature))
    return [
        (sum(float(w) * float(x) / length for w, x in zip(row, feature, strict=True)) + float(b))
        / linear.temperature
        for row, b in zip(linear.weight, linear.bias, strict=True)
    ]


@pytest.mark.parametrize("temperature", [1.0, 0.01, 3.0])
def test_softmax(temperature: float):
    linear = head("softmax", temperature)
    features = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32) * 40
    for row, feature in zip(linear(features), features, strict=True):
        logits = logits_of(linear, feature)
        powers = [math.exp(logit - max(logits)) for logit in logits]
        assert row == pytest.approx([power / sum(powers) for power in powers], abs=1e-9)
        assert row.sum() == pytest.approx(1, abs=1e-12)


def test_sigmoid_treats_labels_independently():
    linear = head("sigmoid", 0.5)
    features = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    for row, feature in zip(linear(features), features, strict=True):
        expected = [1 / (1 + math.exp(-logit)) for logit in logits_of(linear, feature)]
        assert row == pytest.approx(expected, abs=1e-9)


def test_identity_returns_the_logits():
    linear = head("identity")
    features = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    for row, feature in zip(linear(features), features, strict=True):
        assert row == pytest.approx(logits_of(linear, feature), abs=1e-9)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_extreme_logits_and_zero_features_stay_finite(activation: str):
    probabilities = head(activation, 1e-4)(np.array([[0] * 5, [1e-30] * 5, [1e30] * 5], np.float32))
    assert np.isfinite(probabilities).all()
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_head_by_name_or_default(tiny_bundle: Path):
    bundle = load_bundle(tiny_bundle)
    default, named = load_head(bundle), load_head(bundle, "opposite")
    np.testing.assert_array_equal(default.weight, -named.weight)
    assert default.labels == ("anger", "joy", "neutral")
    assert (default.temperature, default.activation) == (2.0, "softmax")
    with pytest.raises(EmotionError, match=r"head 'mood': .*: choose one of probe, opposite"):
        load_head(bundle, "mood")
