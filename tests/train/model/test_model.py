"""Stem, temporal encoder, text tower, and the model as a whole."""

import dataclasses
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_model import PATCHES, SIZE, SMALL, build, random_images, weights
from torch import Tensor, nn
from torch.nn import functional as F

from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.model import PRESETS, EmotionCLIP
from emotion_train.model.stem import ConvStem, ResidualBlock

# --- stem


@pytest.mark.parametrize("size", [(48, 48), (112, 112), (50, 70)])
def test_stem_accepts_images_of_any_size(size: tuple[int, int]):
    stem = ConvStem(24)
    height, width = size
    assert stem(torch.randn(2, 3, height, width)).shape == (2, 24, -(-height // 16), -(-width // 16))


def test_the_channels_of_the_stem_can_be_chosen():
    stem = ConvStem(24, (4, 6, 8))
    assert [stage[0].out_channels for stage in stem] == [4, 6, 8, 24]
    with pytest.raises(EmotionError, match="stem_channels"):
        dataclasses.replace(PRESETS["nano"], stem_channels=(4, 0, 8))


def test_residual_blocks_start_as_identity():
    x = torch.rand(2, 8, 5, 5)
    torch.testing.assert_close(ResidualBlock(8)(x), x)


# --- temporal encoder


def test_temporal_encoder_equals_torchs_own():
    model = build("sap")
    layer = nn.TransformerEncoderLayer(24, 4, 40, activation="gelu", batch_first=True)
    theirs = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(24)).eval()
    theirs.load_state_dict(model.visual_head.fusion_layer.state_dict())
    x = torch.randn(5, 8, 24)
    expected = (theirs(x + model.visual_head.frame_position_embedding.weight) + x).mean(dim=1)
    torch.testing.assert_close(model.encode_temporal(x), expected, atol=1e-5, rtol=1e-5)


def test_dropout_acts_in_training_only():
    model = build("sap")
    x = torch.randn(5, 8, 24)
    assert torch.equal(model.encode_temporal(x), model.encode_temporal(x))
    model.train()
    assert not torch.allclose(model.encode_temporal(x), model.encode_temporal(x), atol=1e-3)


def test_a_video_is_encoded_frame_by_frame_then_over_time():
    model = build("shared", subject_bias=True)
    images, subjects = random_images(16), weights(16)
    frames = torch.stack([model.encode_frames(images[n : n + 1], subjects[n : n + 1])[0] for n in range(16)])
    expected = model.encode_temporal(torch.stack([frames[:8], frames[8:]]))
    got = model.encode_video(images.view(2, 8, 3, SIZE, SIZE), subjects.view(2, 8, PATCHES))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


# --- text tower


def sentence(*ids: int) -> Tensor:
    return torch.tensor([*ids, *[0] * (SMALL.text_context - len(ids))])


def test_padding_and_neighbours_do_not_change_a_sentence():
    model = build("sap")
    short, long = sentence(98, 5, 6, 99), sentence(98, *range(1, 76), 99)
    alone = model.encode_text(short[None])[0]  # columns after its end are cut off
    among = model.encode_text(torch.stack([short, long]))
    torch.testing.assert_close(among[0], alone, atol=1e-6, rtol=1e-5)
    after_the_end = short.clone()
    after_the_end[10:] = 7
    torch.testing.assert_close(
        model.encode_text(torch.stack([after_the_end, long]))[0], alone, atol=1e-6, rtol=1e-5
    )
    other = model.encode_text(sentence(98, 6, 5, 99)[None])[0]
    assert (other - alone).abs().max() > 1e-2


# --- the whole


def test_nano_is_small():
    nano = EmotionCLIP(PRESETS["nano"])
    size = sum(parameter.numel() for parameter in nano.backbone.visual.parameters())
    assert 1_000_000 <= size <= 5_000_000


def test_every_parameter_learns():
    model = EmotionCLIP(replace(SMALL, stem="conv", subject="shared", subject_bias=True))
    video = model.encode_video(random_images(16).view(2, 8, 3, SIZE, SIZE), weights(16).view(2, 8, PATCHES))
    text = model.encode_text(torch.stack([sentence(98, 5, 99), sentence(98, 6, 7, 99)]))
    (model.logit_scale.exp() * F.normalize(video) @ F.normalize(text).T).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: m.encode_frames(torch.zeros(2, 3, 40, 48), weights(2)),
            r"\(2, 3, 40, 48\): expected \(F, 3, 48, 48\)",
        ),
        (
            lambda m: m.encode_frames(random_images(2), weights(3)),
            r"patch_weights has shape \(3, 9\): expected \(2, 9\)",
        ),
        (lambda m: m.encode_frames(random_images(2), torch.zeros(2, 49)), r"expected \(2, 9\)"),
        (
            lambda m: m.encode_people(random_images(2), torch.zeros(2, 1), weights(2)),
            r"frame_index has shape \(2, 1\)",
        ),
        (lambda m: m.encode_temporal(torch.zeros(2, 7, 24)), r"\(2, 7, 24\): expected \(B, 8, 24\)"),
        (lambda m: m.encode_video(random_images(8), weights(8)), r"expected \(B, 8, 3, 48, 48\)"),
        (
            lambda m: m.encode_video(random_images(8)[None], weights(8)),
            r"patch_weights has shape \(8, 9\): expected \(1, 8, 9\)",
        ),
        (lambda m: m.encode_text(torch.zeros(2, 20, dtype=torch.int64)), r"\(2, 20\): expected \(B, 77\)"),
    ],
)
def test_errors_name_wrong_shapes(call: Any, message: str):
    with pytest.raises(EmotionError, match=message):
        call(build("sap"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_heads": 5}, "vision width 32 must be a positive multiple of the number of heads"),
        ({"text_layers": 0}, "at least 1 layer"),
        (
            {"stem": "conv", "preprocess": PreprocessSpec()},
            "patch 32 with stem 'conv'.*set preprocess.patch to 16",
        ),
        ({"subject": "none", "subject_bias": True}, "subject 'none': expected 'sap' or 'shared'"),
        ({"subject": "saam", "subject_bias": True}, "subject 'saam': expected 'sap' or 'shared'"),
        ({"subject": "sap", "saam_layers": 2}, "expected subject 'saam' and 1 to 3 layers"),
        ({"subject": "saam", "saam_layers": 4}, "expected subject 'saam' and 1 to 3 layers"),
    ],
)
def test_invalid_configurations(changes: dict[str, Any], message: str):
    with pytest.raises(EmotionError, match=message):
        replace(SMALL, **changes)


# --- temporal encoders


def clips(count: int) -> Tensor:
    return torch.randn(count, SMALL.clip_frames, SMALL.embed_dim, generator=torch.Generator().manual_seed(3))


def test_mean_pooling_has_no_parameters_and_no_order():
    model = build("sap", temporal="mean")
    x = clips(3)
    assert not list(model.visual_head.parameters())
    torch.testing.assert_close(model.encode_temporal(x), sum(x[:, t] for t in range(8)) / 8)


def test_temporal_convolution_is_depthwise_and_sees_the_neighbours_in_time():
    model = build("sap", temporal="conv")
    x = clips(2)
    kernel, bias = model.visual_head.conv.weight, model.visual_head.conv.bias
    expected = torch.zeros(2, SMALL.embed_dim)
    for t in range(8):
        mixed = bias.clone().expand(2, -1)
        for k in range(3):
            if 0 <= t + k - 1 < 8:
                mixed = mixed + kernel[:, 0, k] * x[:, t + k - 1]
        expected += (F.gelu(mixed) + x[:, t]) / 8
    torch.testing.assert_close(model.encode_temporal(x), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(model.encode_temporal(x.flip(1)), expected, atol=1e-3)
