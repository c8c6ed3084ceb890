"""Weights of others: the released layout, and the towers of open_clip."""

import json
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from small_model import SMALL
from torch import Tensor, nn

from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import (
    load_official,
    load_openclip,
)
from emotion_train.model import PRESETS, EmotionCLIP


def released(model: EmotionCLIP) -> dict[str, Tensor]:
    """A state dict as the official code would save it: two more names."""
    weights = {name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}
    weights["visual_head.position_ids"] = torch.arange(model.config.clip_frames)
    weights["backbone.logit_scale"] = weights["logit_scale"].clone()
    return weights


def test_released_names_are_exactly_ours(shared_data: Path):
    layout = json.loads((shared_data / "golden" / "official_state_dict.json").read_text())
    with torch.device("meta"):
        ours = EmotionCLIP(PRESETS["vit-b-32"]).state_dict()
    released_only = {"visual_head.position_ids", "backbone.logit_scale"}
    assert {name: list(tensor.shape) for name, tensor in ours.items()} == {
        name: shape for name, shape in layout.items() if name not in released_only
    }


@pytest.mark.parametrize("wrap", ["plain", "checkpoint", "ddp"])
def test_released_weights_are_loaded(wrap: str):
    model = EmotionCLIP(SMALL)
    weights = released(model)
    given: dict[str, Any] = {
        "plain": weights,
        "checkpoint": {"epoch": 3, "model": weights},
        "ddp": OrderedDict((f"module.{name}", tensor) for name, tensor in weights.items()),
    }[wrap]
    load_official(model, given)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name])


def test_what_does_not_fit_is_named_and_nothing_is_loaded():
    model = EmotionCLIP(SMALL)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = released(model)
    del weights["backbone.visual.ln_pre.weight"]
    weights["backbone.visual.ln_before.weight"] = torch.zeros(32)
    weights["backbone.visual.proj"] = torch.zeros(32, 8)
    with pytest.raises(EmotionError) as error:
        load_official(model, weights)
    message = str(error.value)
    assert "\n" not in message
    assert "1 missing: backbone.visual.ln_pre.weight" in message
    assert "1 unexpected: backbone.visual.ln_before.weight" in message
    assert "backbone.visual.proj (32, 8) (expected (32, 24))" in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["visual_head.position_ids", "backbone.logit_scale", "logit_scale"])
def test_every_released_name_must_be_there(name: str):
    model = EmotionCLIP(SMALL)
    weights = released(model)
    del weights[name]
    with pytest.raises(EmotionError, match=f"1 missing: {name}"):
        load_official(model, weights)


def test_two_logit_scales_are_refused():
    model = EmotionCLIP(SMALL)
    weights = released(model)
    weights["logit_scale"] += 1
    with pytest.raises(EmotionError, match="differ, expected one number"):
        load_official(model, weights)


def openclip_model(**changes: Any) -> Any:
    """A randomly initialised ViT-B/32 of open_clip."""
    torch.manual_seed(0)
    return open_clip.create_model("ViT-B-32", pretrained=None, **changes).eval()


@pytest.mark.slow
@torch.inference_mode()
def test_towers_of_openclip_give_openclips_features():
    theirs = openclip_model()
    for parameter in theirs.parameters():  # open_clip starts biases at 0, where a mix-up would not show
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn_like(parameter))
    ours = EmotionCLIP(replace(PRESETS["vit-b-32"], subject="none")).eval()
    theirs.logit_scale.fill_(3.5)
    load_openclip(ours, theirs)
    images = torch.randn(2, 3, 224, 224)
    torch.testing.assert_close(
        ours.encode_frames(images, torch.rand(2, 49)), theirs.encode_image(images), atol=1e-4, rtol=0
    )
    tokens = torch.zeros(3, 77, dtype=torch.int64)
    tokens[:, 0] = 49406
    for row, length in enumerate((1, 9, 76)):
        tokens[row, 1:length] = torch.randint(1, 49406, (length - 1,))
        tokens[row, length] = 49407
    torch.testing.assert_close(ours.encode_text(tokens), theirs.encode_text(tokens), atol=1e-4, rtol=0)
    assert ours.logit_scale.item() == 3.5  # the temperature is kept


@pytest.mark.slow
def test_openclip_models_that_are_others_are_refused():
    with torch.device("meta"):
        ours = EmotionCLIP(PRESETS["vit-b-32"])
        nano = EmotionCLIP(PRESETS["nano"])
    theirs = openclip_model()
    with pytest.raises(EmotionError, match="heads, expected 5") as error:
        load_openclip(nano, theirs)
    assert "\n" not in str(error.value)
    theirs.visual.proj = nn.Parameter(torch.zeros(768, 640))
    with pytest.raises(EmotionError, match=r"backbone\.visual\.proj \(768, 640\) \(expected \(768, 512\)\)"):
        load_openclip(ours, theirs)
    with pytest.raises(EmotionError, match=r"QuickGELU.*this model has activation 'gelu'"):
        load_openclip(ours, openclip_model(force_quick_gelu=True))
