"""The baseline of the encoder benchmark is the same function, computed the long way."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from emotion_bench.feeds import frame_feeds
from emotion_bench.models import PlainFrameEncoder, formula_model, plain_feeds
from emotion_export.graphs import graph_sources
from emotion_train.model import PRESETS, EmotionCLIP, ModelConfig

SMALL = replace(PRESETS["nano"], vision_width=48, vision_layers=3, vision_heads=3, temporal_layers=2)
MODELS = {
    "shared with bias": SMALL,
    "shared": replace(SMALL, subject_bias=False),
    "sap with bias": replace(SMALL, subject="sap"),
    "sap": replace(SMALL, subject="sap", subject_bias=False),
}


def model_of(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> EmotionCLIP:
    monkeypatch.setattr("emotion_bench.models.PRESETS", {"small": config})
    return formula_model("small")


def run(module: torch.nn.Module, feeds: dict) -> np.ndarray:
    with torch.inference_mode():
        return module(*map(torch.from_numpy, feeds.values())).numpy()


@pytest.mark.parametrize("name", MODELS)
def test_the_plain_frame_encoder_is_the_model(name: str, monkeypatch: pytest.MonkeyPatch):
    model = model_of(MODELS[name], monkeypatch)
    spec = model.config.preprocess
    ours = frame_feeds(spec, 3)
    found = run(PlainFrameEncoder(model), plain_feeds(spec, ours))
    expected = run(graph_sources(model)[0].module, ours)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    # Persons of one picture differ, or the comparison would be of nothing.
    assert np.abs(expected[0] - expected[1]).max() > 1e-3


def test_weights_are_a_formula_of_about_unit_scale(monkeypatch: pytest.MonkeyPatch):
    first, second = model_of(SMALL, monkeypatch), model_of(SMALL, monkeypatch)
    for (name, a), (_, b) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    embeddings = run(graph_sources(first)[0].module, frame_feeds(first.config.preprocess, 3))
    assert 0.1 < embeddings.std() < 10
