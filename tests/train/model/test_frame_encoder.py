"""The frame encoder, against its definition and for different subjects."""

from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
import torch
from small_model import PATCHES, SMALL, build, random_images, weights
from torch import Tensor, nn
from torch.nn import functional as F

from emotion_train.model import EmotionCLIP
from emotion_train.model.transformer import Block

MODES = [("none", False), ("sap", False), ("sap", True), ("shared", False), ("shared", True)]


def reference(model: EmotionCLIP, images: Tensor, patch_weights: Tensor) -> Tensor:
    """Compute the frame encoder by its definition: every row of every block, dense softmax, no sharing.

    Rows and columns are [cls, patches, hmn]; a mask and a bias on the logits define a mode.
    """
    config, visual = model.config, model.backbone.visual
    heads, rows = config.vision_heads, 2 + PATCHES
    person, patch = [0, rows - 1], list(range(1, rows - 1))
    hidden = torch.zeros(rows, rows, dtype=torch.bool)
    if config.subject == "shared":
        hidden[torch.tensor(patch)[:, None], torch.tensor(person)] = True
    if config.subject == "none":
        hidden[:, -1] = True  # no token sees hmn
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


@pytest.mark.parametrize(("subject", "subject_bias"), MODES)
def test_frame_encoder_agrees_with_its_definition(subject: str, subject_bias: bool):
    model = build(subject, subject_bias=subject_bias)
    images, subjects = random_images(4), weights(4)
    subjects[3] = 0  # no subject
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
    images, subjects = random_images(3), weights(4)
    index = torch.tensor([2, 0, 2, 2])
    together = model.encode_people(images, index, subjects)
    for person, picture in enumerate(index):
        alone = model.encode_frames(images[picture][None], subjects[person][None])[0]
        torch.testing.assert_close(together[person], alone, atol=1e-5, rtol=1e-5)
    others_differ = (together[0] - together[2]).abs().max()  # two persons of one picture
    assert others_differ == 0 if subject == "none" else others_differ > 1e-2


def test_images_without_people():
    for subject, subject_bias in MODES:
        model = build(subject, subject_bias=subject_bias)
        empty = model.encode_people(
            random_images(2), torch.zeros(0, dtype=torch.int64), torch.zeros(0, PATCHES)
        )
        assert empty.shape == (0, 24)


def test_shared_patches_do_not_depend_on_the_subject():
    model = build("shared", subject_bias=True)
    streams: list[list[Tensor]] = []
    for seed in (2, 3):
        stream: list[Tensor] = []  # rows before each block: two of each person, then those of patches

        def record(_: nn.Module, inputs: tuple[Tensor], into: list[Tensor] = stream) -> None:
            into.append(inputs[0])

        hooks = [
            block.ln_1.register_forward_pre_hook(record)
            for block in model.backbone.visual.transformer.blocks()
        ]
        model.encode_frames(random_images(2), weights(2, seed))
        for hook in hooks:
            hook.remove()
        streams.append(stream)
    assert [len(stream) for stream in streams] == 2 * [SMALL.vision_layers]
    own = 2 * 2
    for first, second in zip(*streams, strict=True):
        assert first.shape == second.shape == (1, own + 2 * PATCHES, SMALL.vision_width)
        assert torch.equal(first[:, own:], second[:, own:])
        assert not torch.allclose(first[:, :own], second[:, :own], atol=1e-2)


@pytest.mark.parametrize("subject", ["sap", "shared"])
def test_a_gain_of_zero_is_no_bias(subject: str):
    biased, plain = build(subject, subject_bias=True), build(subject)
    missing = biased.load_state_dict(plain.state_dict(), strict=False).missing_keys
    gains = [f"backbone.visual.transformer.resblocks.{n}.attn.subject_gain" for n in range(3)]
    assert missing == gains
    images, subjects = random_images(2), weights(2)
    expected = plain.encode_frames(images, subjects)
    assert (biased.encode_frames(images, subjects) - expected).abs().max() > 1e-2
    with torch.no_grad():
        for name in gains:
            biased.get_parameter(name).zero_()
    torch.testing.assert_close(biased.encode_frames(images, subjects), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("subject", ["sap", "shared"])
def test_attention_follows_the_subject_before_training(subject: str):
    """A patch has more influence on the person who covers it."""
    torch.manual_seed(0)
    model = EmotionCLIP(replace(SMALL, subject=subject, subject_bias=True)).eval()
    images = random_images(1).requires_grad_()
    subjects = torch.zeros(1, PATCHES)
    subjects[0, 4] = 1  # the middle one of 3 x 3
    model.encode_frames(images, subjects).square().sum().backward()
    influence = F.avg_pool2d(images.grad.square().sum(dim=1), 16).flatten()
    assert influence.argmax() == 4
    assert influence[4] > 2 * influence[torch.arange(9) != 4].max()


def test_mode_none_ignores_weights():
    model = build("none")
    images = random_images(2)
    assert torch.equal(model.encode_frames(images, weights(2)), model.encode_frames(images, weights(2, 5)))


def test_a_block_with_few_queries_gives_the_first_rows():
    torch.manual_seed(0)
    block = Block(32, 4, depth=2, subject_bias=True)
    x, subject = torch.randn(3, 7, 32), torch.randn(3, 1, 7, 7)
    torch.testing.assert_close(block(x, queries=2, subject=subject), block(x, subject=subject)[:, :2])


class FrameEncoder(nn.Module):
    """The method that is exported, as `forward`."""

    def __init__(self, model: EmotionCLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, frame_index: Tensor, patch_weights: Tensor) -> Tensor:
        return self.model.encode_people(images, frame_index, patch_weights)


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["sap", "shared"])
def test_one_exported_graph_serves_any_number_of_images_and_people(subject: str, tmp_path: Path):
    """With the bias torch uses another attention kernel, whose memory layout must not get into the graph."""
    model = build(subject, subject_bias=True, vision_layers=2)
    images, persons = torch.export.Dim("images"), torch.export.Dim("persons")
    torch.onnx.export(
        FrameEncoder(model).eval(),
        (random_images(2), torch.tensor([0, 1, 1]), weights(3)),
        tmp_path / "encoder.onnx",
        dynamo=True,
        verbose=False,
        dynamic_shapes=({0: images}, {0: persons}, {0: persons}),
    )
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    for index in ([0], [0, 0, 0, 0], [4, 0, 2]):
        given = (random_images(max(index) + 1), torch.tensor(index), weights(len(index)))
        (got,) = session.run(None, {name: x.numpy() for name, x in zip(names, given, strict=True)})
        torch.testing.assert_close(torch.from_numpy(got), model.encode_people(*given), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("subject", ["sap", "shared", "saam", "saam-rowwise"])
@torch.no_grad()
def test_a_hook_is_given_the_attention_weights_and_changes_nothing(subject: str):
    """Weighted sums of the values are what each call of `attend` returns."""
    model = build(subject, subject_bias=not subject.startswith("saam"))
    images, subjects = random_images(3), weights(3)
    expected = model.encode_frames(images, subjects)
    seen: list[Tensor] = []
    attentions = [block.attn for block in model.backbone.visual.transformer.blocks()]
    for attention in attentions:
        attention.weights_hook = seen.append
    assert torch.equal(model.encode_frames(images, subjects), expected)
    calls_per_block = (
        2 if subject == "shared" else 1
    )  # people and patches attend apart, but for the last block
    assert len(seen) == calls_per_block * len(attentions) - (calls_per_block - 1)
    for rows in seen:
        torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:-1]))
    for attention in attentions:
        attention.weights_hook = None
    model.encode_frames(images, subjects)
    assert len(seen) == calls_per_block * len(attentions) - (calls_per_block - 1)


@pytest.mark.parametrize("causal", [False, True])
@torch.no_grad()
def test_attention_weights_are_those_that_sum_up_the_values(causal: bool):
    torch.manual_seed(0)
    attention = Block(32, 4, depth=2, subject_bias=True).attn
    query, key, value = attention.project(torch.randn(3, 7, 32))
    subject = None if causal else torch.randn(3, 1, 7, 7)
    summed = attention.weights(query, key, subject=subject, causal=causal) @ value
    torch.testing.assert_close(
        attention.attend(query, key, value, subject=subject, causal=causal), summed.transpose(1, 2).flatten(2)
    )
