"""Subject-aware attention masking, against a slow loop written from Eq. 2-4 of the paper."""

from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest
import torch
from masked_attention import masked_model, reference
from small_model import PATCHES, SMALL, random_images, weights
from torch import Tensor, nn

from emotion_train.model import EmotionCLIP
from emotion_train.model.config import Saam
from emotion_train.model.transformer import Block
from emotion_train.model.vision import saam_mask

BOTH = pytest.mark.parametrize("subject", ["saam", "saam-rowwise"])


@BOTH
@pytest.mark.parametrize("layers", [None, 1])
@torch.no_grad()
def test_masked_attention_is_the_papers_equations(layers: int | None, subject: str):
    model = masked_model(subject, saam_layers=layers)
    images, subjects = random_images(4), weights(4)
    subjects[2], subjects[3] = 0, 1  # no subject; a subject everywhere
    got = model.encode_frames(images, subjects)
    for image, patch_weights, embedding in zip(images, subjects, got, strict=True):
        expected, rows = reference(model, image, patch_weights)
        torch.testing.assert_close(embedding, expected, atol=2e-5, rtol=1e-4)
        assert all(sum(row) == pytest.approx(1, abs=1e-9) for row in rows)
        assert min(min(row) for row in rows) >= 0
    shifts = [block.attn.subject_shift is not None for block in model.backbone.visual.transformer.blocks()]
    assert shifts == ([True] * 3 if layers is None else [True, False, False])


@torch.no_grad()
def test_the_two_readings_of_eq_2_differ():
    written = masked_model("saam")
    rowwise = EmotionCLIP(replace(written.config, subject="saam-rowwise")).eval()
    rowwise.load_state_dict(written.state_dict())  # the same parameters
    first, second = (model.encode_frames(random_images(2), weights(2)) for model in (written, rowwise))
    assert (first - second).norm() > 0.01 * first.norm()


@torch.no_grad()
def test_only_as_written_the_subject_reaches_cls_within_a_block():
    """Row by row, cls hands what it gives away to plain attention."""
    moved = {}
    for rowwise in (False, True):
        torch.manual_seed(0)
        block = Block(32, 4, depth=2, saam=Saam(PATCHES + 2, rowwise=rowwise))
        x = torch.randn(1, PATCHES + 2, 32).expand(2, -1, -1)
        subjects = torch.zeros(2, PATCHES)
        subjects[0, 0] = subjects[1, 8] = 1
        first, second = block(x, queries=1, subject=saam_mask(subjects))[:, 0]
        moved[rowwise] = float((first - second).abs().max())
    assert moved[False] > 1e-4
    assert moved[True] < 1e-6


@BOTH
@torch.no_grad()
def test_the_first_rows_are_those_of_all_rows(subject: str):
    torch.manual_seed(0)
    block = Block(32, 4, depth=2, saam=Saam(PATCHES + 2, rowwise=subject == "saam-rowwise"))
    x, mask = torch.randn(2, PATCHES + 2, 32), saam_mask(weights(2))
    torch.testing.assert_close(block(x, queries=1, subject=mask), block(x, subject=mask)[:, :1])


@pytest.mark.parametrize("rowwise", [False, True])
def test_without_a_shift_it_is_plain_attention_to_the_last_bit(rowwise: bool):
    torch.manual_seed(0)
    block = Block(32, 4, depth=2, saam=Saam(7, rowwise=rowwise))
    x = torch.randn(3, 7, 32)
    mask = torch.zeros(3, 1, 7, 7)
    mask[:, :, -1, :3] = -torch.inf
    plain = block(x)  # without a mask there is nothing to shift to
    assert not torch.equal(block(x, subject=mask), plain)
    with torch.no_grad():
        block.attn.subject_shift.fill_(-torch.inf)  # A = 0
    assert torch.equal(block(x, subject=mask), plain)


@BOTH
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_gradients_are_finite_without_subject_and_with_one_that_fills_the_image(share: float, subject: str):
    model = masked_model(subject)
    subjects = torch.full((2, PATCHES), share)
    model.encode_frames(random_images(2), subjects).square().sum().backward()
    for name, parameter in model.backbone.visual.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_the_shift_stays_in_0_1_during_training():
    model = masked_model()
    shifts = [p for n, p in model.named_parameters() if n.endswith("subject_shift")]
    optimizer = torch.optim.SGD(shifts, lr=1e4)
    for _ in range(3):
        optimizer.zero_grad()
        model.encode_frames(random_images(2), weights(2)).square().sum().backward()
        optimizer.step()
    assert max(float(shift.detach().abs().max()) for shift in shifts) > 10
    with torch.no_grad():
        _, rows = reference(model, random_images(2)[0], weights(2)[0])
    assert all(-1e-9 <= entry <= 1 + 1e-9 for row in rows for entry in row)


def test_the_subject_changes_the_embedding_before_training():
    torch.manual_seed(0)
    model = EmotionCLIP(replace(SMALL, subject="saam")).eval()
    images = random_images(1).expand(2, -1, -1, -1)
    subjects = torch.zeros(2, PATCHES)
    subjects[0, 0] = subjects[1, 8] = 1
    first, second = model.encode_frames(images, subjects)
    assert (first - second).abs().max() > 1e-3


class FrameEncoder(nn.Module):
    def __init__(self, model: EmotionCLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, patch_weights: Tensor) -> Tensor:
        return self.model.encode_frames(images, patch_weights)


@BOTH
@pytest.mark.slow
def test_it_can_be_exported(tmp_path: Path, subject: str):
    model = masked_model(subject, vision_layers=2)
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        FrameEncoder(model).eval(),
        (random_images(2), weights(2)),
        tmp_path / "encoder.onnx",
        dynamo=True,
        verbose=False,
        dynamic_shapes=({0: batch}, {0: batch}),
    )
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    given = (random_images(3), torch.cat([weights(2), torch.zeros(1, PATCHES)]))
    (got,) = session.run(None, {name: x.numpy() for name, x in zip(names, given, strict=True)})
    torch.testing.assert_close(torch.from_numpy(got), model.encode_frames(*given), atol=1e-5, rtol=1e-4)
