"""Attention maps compared with loops over tokens, for every kind of subject conditioning."""

import math

import numpy as np
import pytest
import torch
from masked_attention import masked_model, reference
from small_model import PATCHES, SIZE, SMALL, build, random_images, weights
from torch import Tensor
from torch.nn import functional as F

from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.figures.attention_maps import (
    AttentionMaps,
    attention_fractions,
    crop_person,
    hmn_attention,
    person_attention,
)
from emotion_train.model import EmotionCLIP

HEADS, LAYERS = SMALL.vision_heads, SMALL.vision_layers
CLS, HMN = PATCHES, PATCHES + 1  # of the keys


def own_maps(model: EmotionCLIP, count: int = 2) -> AttentionMaps:
    return hmn_attention(model, random_images(count), torch.arange(count), weights(count))


def slow_maps(model: EmotionCLIP, image: Tensor, patch_weights: Tensor) -> tuple[Tensor, Tensor]:
    """hmn and cls rows, (layers, heads, G + 2) each, of one person by a loop over tokens; not SAAM."""
    visual = model.backbone.visual
    positions = visual.positional_embedding
    grid = F.conv2d(image[None], visual.conv1.weight, stride=16)[0].flatten(1).T + positions[1:]
    prompt = sum(w * positions[1 + i] for i, w in enumerate(patch_weights))
    x = visual.ln_pre(torch.stack([*grid, visual.class_embedding + positions[0], prompt]))
    apart = model.config.subject == "shared"
    found = bool(patch_weights.sum() > 0)
    maps = []
    for block in visual.transformer.resblocks:
        qkv = block.ln_1(x) @ block.attn.in_proj_weight.T + block.attn.in_proj_bias
        q, k, v = qkv.reshape(PATCHES + 2, 3, HEADS, -1).unbind(1)  # (tokens, heads, d)
        rows = torch.zeros(HEADS, PATCHES + 2, PATCHES + 2)
        for head in range(HEADS):
            for i in range(PATCHES + 2):
                keys = range(PATCHES) if apart and i < PATCHES else range(PATCHES + 2)
                logits = []
                for j in keys:
                    logit = float(q[i, head] @ k[j, head]) / math.sqrt(q.shape[-1])
                    if block.attn.subject_gain is not None and i >= PATCHES and j < PATCHES and found:
                        logit += float(block.attn.subject_gain[head]) * math.log(
                            float(patch_weights[j]) + 0.02
                        )
                    logits.append(logit)
                powers = [math.exp(logit - max(logits)) for logit in logits]
                for j, power in zip(keys, powers, strict=True):
                    rows[head, i, j] = power / sum(powers)
        maps.append(rows)
        mixed = torch.stack([rows[head] @ v[:, head] for head in range(HEADS)], dim=1).flatten(1)
        x = x + block.attn.out_proj(mixed)
        x = x + block.mlp.c_proj(F.gelu(block.mlp.c_fc(block.ln_2(x))))
    stacked = torch.stack(maps)
    return stacked[:, :, HMN], stacked[:, :, CLS]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("subject", ["sap", "shared"])
@torch.no_grad()
def test_maps_are_those_of_a_slow_loop(subject: str, bias: bool):
    model = build(subject, subject_bias=bias)
    found = own_maps(model)
    assert found.hmn.shape == (LAYERS - 1, 2, HEADS, PATCHES + 2)
    assert found.cls.shape == (LAYERS, 2, HEADS, PATCHES + 2)
    for person in range(2):
        hmn, cls = slow_maps(model, random_images(2)[person], weights(2)[person])
        torch.testing.assert_close(found.hmn[:, person], hmn[:-1], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(found.cls[:, person], cls, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("subject", ["saam", "saam-rowwise"])
@pytest.mark.parametrize("masked", [None, 1])
@torch.no_grad()
def test_maps_of_saam_are_the_rows_of_the_papers_equations(masked: int | None, subject: str):
    model = masked_model(subject, saam_layers=masked)
    found = own_maps(model)
    for person in range(2):
        _, rows = reference(model, random_images(2)[person], weights(2)[person])
        expected = torch.tensor(rows).reshape(LAYERS, HEADS, PATCHES + 2, PATCHES + 2)
        torch.testing.assert_close(found.hmn[:, person], expected[:-1, :, HMN], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(found.cls[:, person], expected[:, :, CLS], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("subject", ["sap", "shared", "saam"])
def test_rows_sum_to_1_and_the_model_is_as_before(subject: str):
    model = build(subject, subject_bias=subject != "saam")
    before = model.encode_frames(random_images(3), weights(3))
    found = hmn_attention(model, random_images(3), torch.arange(3), weights(3))
    for rows in (found.hmn, found.cls):
        torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:-1]))
    assert torch.equal(model.encode_frames(random_images(3), weights(3)), before)
    assert all(block.attn.weights_hook is None for block in model.backbone.visual.transformer.blocks())


def test_people_in_one_image_have_their_own_maps():
    model = build("shared", subject_bias=True)
    subjects = weights(2)
    together = hmn_attention(model, random_images(1), torch.zeros(2, dtype=torch.int64), subjects)
    for person in range(2):
        alone = hmn_attention(model, random_images(1), torch.zeros(1, dtype=torch.int64), subjects[[person]])
        torch.testing.assert_close(together.hmn[:, person], alone.hmn[:, 0])
    assert (together.hmn[:, 0] - together.hmn[:, 1]).abs().max() > 1e-3


def test_models_without_a_row_of_hmn():
    with pytest.raises(EmotionError, match='subject "none", so it has no hmn token: expected one of sap'):
        own_maps(build("none"))
    with pytest.raises(EmotionError, match="has 1 layer, in which the hmn row is not computed"):
        own_maps(build("sap", vision_layers=1))


def test_a_person_is_seen_as_the_runtime_would():
    """Half the size; the centre crop then leaves out 24 columns on each side."""
    spec = PreprocessSpec(size=48, patch=16, short_side=48)
    picture = np.zeros((96, 192, 3), np.uint8)
    picture[32:64, 64:96] = 255
    person = crop_person(picture, (64, 32, 96, 64), spec)
    assert person.box == (64 / 2 - 24, 16, 96 / 2 - 24, 32)
    # The person stands between columns 8 and 24, rows 16 and 32: half of one patch and half of its neighbour.
    assert person.patch_weights == pytest.approx([0, 0, 0, 0.5, 0.5, 0, 0, 0, 0])
    assert person.image[24, 16].min() > 250
    assert person.image[24, 28].max() < 5


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((50, 50, 50, 60), "box 50 50 50 60: expected x1 < x2 and y1 < y2"),
        ((150, 10, 190, 90), "lies outside the part of the 192 x 96 image that the model sees, 48 0 144 96"),
        ((300, 10, 340, 50), "lies outside the part of the 192 x 96 image"),
    ],
)
def test_boxes_without_a_visible_person_are_refused(box: tuple[float, float, float, float], message: str):
    spec = PreprocessSpec(size=48, patch=16, short_side=48)
    with pytest.raises(EmotionError, match=message):
        crop_person(np.zeros((96, 192, 3), np.uint8), box, spec)


def test_a_box_outside_the_image_is_refused():
    """The runtime moves its crop window into the image; the box must lie in it too."""
    with pytest.raises(EmotionError, match="lies outside"):
        crop_person(np.zeros((96, 192, 3), np.uint8), (200, 10, 240, 50), SMALL.preprocess)


def test_maps_of_a_crop_use_its_normalised_pixels():
    model = build("sap")
    picture = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    person = crop_person(picture, (0, 0, 48, 24), PreprocessSpec(size=SIZE, patch=16, short_side=SIZE))
    pixels = (picture / 255 - SMALL.preprocess.mean) / SMALL.preprocess.std
    images = torch.from_numpy(pixels).float().permute(2, 0, 1)[None]
    covered = torch.tensor([[1, 1, 1, 0.5, 0.5, 0.5, 0, 0, 0]])
    expected = hmn_attention(model, images, torch.zeros(1, dtype=torch.int64), covered)
    torch.testing.assert_close(person_attention(model, person).hmn, expected.hmn, atol=1e-5, rtol=1e-4)


def test_shares_of_a_row():
    row = np.array([0.1, 0.2, 0.3, 0.0, 0.25, 0.15], np.float32)  # four patches, cls, hmn
    on_patches, on_person = attention_fractions(row, np.array([0, 1, 0.5, 1], np.float32))
    assert on_patches == pytest.approx(0.6)
    assert on_person == pytest.approx((0.2 + 0.15) / 0.6)
