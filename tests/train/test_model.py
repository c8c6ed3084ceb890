from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.model import PRESETS, EmotionCLIP, ModelConfig
from emotion_train.model.attention import Block
from emotion_train.model.stem import ConvStem, ResidualBlock

SMALL = ModelConfig(
    preprocess=PreprocessSpec(size=48, patch=16, window="subject", short_side=48, subject_scale=1.5),
    embed_dim=24,
    vision_width=32,
    vision_layers=3,
    vision_heads=4,
    temporal_layers=2,
    temporal_heads=4,
    temporal_ff=40,
    text_width=16,
    text_layers=2,
    text_heads=2,
    text_vocab=100,
)
SIZE, PATCHES = SMALL.preprocess.size, SMALL.preprocess.patches
MODES = [("none", False), ("sap", False), ("sap", True), ("shared", False), ("shared", True)]


def build(subject: str, *, subject_bias: bool = False, **changes: Any) -> EmotionCLIP:
    """A small model in eval mode, none of whose parameters has a value that hides something."""
    torch.manual_seed(0)
    model = EmotionCLIP(replace(SMALL, subject=subject, subject_bias=subject_bias, **changes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # gains start at 1 and biases at 0
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif "in_proj" in name:
                parameter.mul_(2)  # attention that is far from uniform
    return model


def pictures(count: int) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def weights(count: int, seed: int = 2) -> Tensor:
    """(count, G) in [0, 1], about half of them 0."""
    return (2 * torch.rand(count, PATCHES, generator=torch.Generator().manual_seed(seed)) - 1).clamp(min=0)


def reference(model: EmotionCLIP, images: Tensor, patch_weights: Tensor) -> Tensor:
    """The frame encoder as the definition has it: every row of every block, dense softmax, no sharing.

    Rows and columns are [cls, patches, hmn]; a mask and a bias on the logits say what makes a mode.
    """
    config, visual = model.config, model.backbone.visual
    heads, rows = config.vision_heads, 2 + PATCHES
    person, patch = [0, rows - 1], list(range(1, rows - 1))
    hidden = torch.zeros(rows, rows, dtype=torch.bool)
    if config.subject == "shared":
        hidden[torch.tensor(patch)[:, None], torch.tensor(person)] = True
    if config.subject == "none":
        hidden[:, -1] = True  # nobody sees hmn
    lean = torch.zeros(len(images), rows, rows)
    for n, row in enumerate(patch_weights):
        if config.subject_bias and row.sum() > 0:
            lean[n, 0, 1:-1] = lean[n, -1, 1:-1] = torch.log(row + 0.02)
    positions = visual.positional_embedding
    grid = F.conv2d(images, visual.conv1.weight, stride=16).flatten(2).transpose(1, 2) + positions[1:]
    cls = (visual.class_embedding + positions[0]).expand(len(images), 1, -1)
    hmn = (patch_weights[:, :, None] * positions[1:]).sum(dim=1, keepdim=True)
    x = visual.ln_pre(torch.cat([cls, grid, hmn], dim=1))
    for block in visual.transformer.resblocks:
        attn = block.attn
        qkv = block.ln_1(x) @ attn.in_proj_weight.T + attn.in_proj_bias
        q, k, v = (t.reshape(*t.shape[:2], heads, -1).transpose(1, 2) for t in qkv.chunk(3, dim=-1))
        logits = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
        if config.subject_bias:
            logits = logits + attn.subject_gain[:, None, None] * lean[:, None]
        seen = logits.masked_fill(hidden, -torch.inf).softmax(dim=-1) @ v
        x = x + attn.out_proj(seen.transpose(1, 2).flatten(2))
        x = x + block.mlp.c_proj(F.gelu(block.mlp.c_fc(block.ln_2(x))))
    return visual.ln_post(x)[:, 0] @ visual.proj


# --- frame encoder


@pytest.mark.parametrize(("subject", "subject_bias"), MODES)
def test_frame_encoder_is_what_its_definition_says(subject: str, subject_bias: bool):
    model = build(subject, subject_bias=subject_bias)
    images, subjects = pictures(4), weights(4)
    subjects[3] = 0  # nobody there
    expected = reference(model, images, subjects)
    got = model.encode_frames(images, subjects)
    assert got.shape == (4, 24)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    got.sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.backbone.visual.named_parameters()}
    model.zero_grad()
    expected.sum().backward()
    for name, parameter in model.backbone.visual.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize(("subject", "subject_bias"), MODES)
def test_a_person_is_the_same_alone_and_among_others(subject: str, subject_bias: bool):
    model = build(subject, subject_bias=subject_bias)
    images, subjects = pictures(3), weights(4)
    index = torch.tensor([2, 0, 2, 2])
    together = model.encode_people(images, index, subjects)
    for person, picture in enumerate(index):
        alone = model.encode_frames(images[picture][None], subjects[person][None])[0]
        torch.testing.assert_close(together[person], alone, atol=1e-5, rtol=1e-5)
    others_differ = (together[0] - together[2]).abs().max()  # two persons of one picture
    assert others_differ == 0 if subject == "none" else others_differ > 1e-2


def test_nobody_in_the_pictures():
    for subject, subject_bias in MODES:
        model = build(subject, subject_bias=subject_bias)
        empty = model.encode_people(pictures(2), torch.zeros(0, dtype=torch.int64), torch.zeros(0, PATCHES))
        assert empty.shape == (0, 24)


def test_shared_patches_do_not_know_who_is_meant():
    model = build("shared", subject_bias=True)
    streams: list[dict[str, list[Tensor]]] = []
    for seed in (2, 3):
        stream: dict[str, list[Tensor]] = {"patches": [], "persons": []}

        def record(_: nn.Module, inputs: tuple[Tensor], into: dict[str, list[Tensor]] = stream) -> None:
            into["patches" if inputs[0].shape[1] == PATCHES else "persons"].append(inputs[0])

        hooks = [
            block.ln_1.register_forward_pre_hook(record)
            for block in model.backbone.visual.transformer.blocks()
        ]
        model.encode_frames(pictures(2), weights(2, seed))
        for hook in hooks:
            hook.remove()
        streams.append(stream)
    first, second = streams
    assert len(first["patches"]) == len(first["persons"]) == SMALL.vision_layers
    assert all(torch.equal(a, b) for a, b in zip(first["patches"], second["patches"], strict=True))
    assert not torch.allclose(first["persons"][-1], second["persons"][-1], atol=1e-2)


@pytest.mark.parametrize("subject", ["sap", "shared"])
def test_a_gain_of_zero_is_no_bias(subject: str):
    biased, plain = build(subject, subject_bias=True), build(subject)
    missing = biased.load_state_dict(plain.state_dict(), strict=False).missing_keys
    gains = [f"backbone.visual.transformer.resblocks.{n}.attn.subject_gain" for n in range(3)]
    assert missing == gains
    images, subjects = pictures(2), weights(2)
    expected = plain.encode_frames(images, subjects)
    assert (biased.encode_frames(images, subjects) - expected).abs().max() > 1e-2
    with torch.no_grad():
        for name in gains:
            biased.get_parameter(name).zero_()
    torch.testing.assert_close(biased.encode_frames(images, subjects), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("subject", ["sap", "shared"])
def test_attention_follows_the_subject_from_the_start(subject: str):
    """What happens in a patch matters more to the person who covers it."""
    torch.manual_seed(0)
    model = EmotionCLIP(replace(SMALL, subject=subject, subject_bias=True)).eval()
    images = pictures(1).requires_grad_()
    subjects = torch.zeros(1, PATCHES)
    subjects[0, 4] = 1  # the middle one of 3 x 3
    model.encode_frames(images, subjects).square().sum().backward()
    influence = F.avg_pool2d(images.grad.square().sum(dim=1), 16).flatten()
    assert influence.argmax() == 4
    assert influence[4] > 2 * influence[torch.arange(9) != 4].max()


def test_mode_none_ignores_weights():
    model = build("none")
    images = pictures(2)
    assert torch.equal(model.encode_frames(images, weights(2)), model.encode_frames(images, weights(2, 5)))


def test_a_block_of_few_queries_gives_the_first_rows():
    torch.manual_seed(0)
    block = Block(32, 4, depth=2, subject_bias=True)
    x, subject = torch.randn(3, 7, 32), torch.randn(3, 1, 7, 7)
    torch.testing.assert_close(block(x, queries=2, subject=subject), block(x, subject=subject)[:, :2])


# --- stem


@pytest.mark.parametrize("size", [(48, 48), (112, 112), (50, 70)])
def test_stem_takes_pictures_of_any_size(size: tuple[int, int]):
    stem = ConvStem(24)
    height, width = size
    assert stem(torch.randn(2, 3, height, width)).shape == (2, 24, -(-height // 16), -(-width // 16))


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


def test_video_is_frames_then_time():
    model = build("shared", subject_bias=True)
    images, subjects = pictures(16), weights(16)
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
    video = model.encode_video(pictures(16).view(2, 8, 3, SIZE, SIZE), weights(16).view(2, 8, PATCHES))
    text = model.encode_text(torch.stack([sentence(98, 5, 99), sentence(98, 6, 7, 99)]))
    (model.logit_scale.exp() * F.normalize(video) @ F.normalize(text).T).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


class FrameEncoder(nn.Module):
    """The entry that is exported, as `forward`."""

    def __init__(self, model: EmotionCLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, frame_index: Tensor, patch_weights: Tensor) -> Tensor:
        return self.model.encode_people(images, frame_index, patch_weights)


@pytest.mark.parametrize("subject", ["sap", "shared"])
def test_one_exported_graph_serves_any_number_of_pictures_and_persons(subject: str, tmp_path: Path):
    """With the bias: torch takes another attention kernel then, whose layout must not get into the graph."""
    model = build(subject, subject_bias=True, vision_layers=2)
    pictures_, persons = torch.export.Dim("pictures"), torch.export.Dim("persons")
    torch.onnx.export(
        FrameEncoder(model).eval(),
        (pictures(2), torch.tensor([0, 1, 1]), weights(3)),
        tmp_path / "encoder.onnx",
        dynamo=True,
        verbose=False,
        dynamic_shapes=({0: pictures_}, {0: persons}, {0: persons}),
    )
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    for index in ([0], [0, 0, 0, 0], [4, 0, 2]):
        given = (pictures(max(index) + 1), torch.tensor(index), weights(len(index)))
        (got,) = session.run(None, {name: x.numpy() for name, x in zip(names, given, strict=True)})
        torch.testing.assert_close(torch.from_numpy(got), model.encode_people(*given), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m: m.encode_frames(torch.zeros(2, 3, 40, 48), weights(2)),
            r"\(2, 3, 40, 48\): expected \(F, 3, 48, 48\)",
        ),
        (
            lambda m: m.encode_frames(pictures(2), weights(3)),
            r"patch_weights of shape \(3, 9\): expected \(2, 9\)",
        ),
        (lambda m: m.encode_frames(pictures(2), torch.zeros(2, 49)), r"expected \(2, 9\)"),
        (
            lambda m: m.encode_people(pictures(2), torch.zeros(2, 1), weights(2)),
            r"frame_index of shape \(2, 1\)",
        ),
        (lambda m: m.encode_temporal(torch.zeros(2, 7, 24)), r"\(2, 7, 24\): expected \(B, 8, 24\)"),
        (lambda m: m.encode_video(pictures(8), weights(8)), r"expected \(B, 8, 3, 48, 48\)"),
        (
            lambda m: m.encode_video(pictures(8)[None], weights(8)),
            r"patch_weights of shape \(8, 9\): expected \(1, 8, 9\)",
        ),
        (lambda m: m.encode_text(torch.zeros(2, 20, dtype=torch.int64)), r"\(2, 20\): expected \(B, 77\)"),
    ],
)
def test_bad_shapes_are_named(call: Any, message: str):
    with pytest.raises(EmotionError, match=message):
        call(build("sap"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_heads": 5}, "vision width 32 is no positive multiple of 5 heads"),
        ({"text_layers": 0}, "at least 1 layer"),
        (
            {"stem": "conv", "preprocess": PreprocessSpec()},
            "patch 32 with stem 'conv'.*set preprocess.patch to 16",
        ),
        ({"subject": "none", "subject_bias": True}, "subject_bias needs a subject"),
    ],
)
def test_configurations_that_cannot_be(changes: dict[str, Any], message: str):
    with pytest.raises(EmotionError, match=message):
        replace(SMALL, **changes)


def test_attention_masking_is_not_there_yet():
    with pytest.raises(EmotionError, match=r"'saam' is not implemented: choose 'sap', 'shared' or 'none'"):
        EmotionCLIP(replace(SMALL, subject="saam"))
