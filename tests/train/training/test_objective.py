"""Steps in pieces: the same loss and gradients as of the whole batch, computed directly."""

from dataclasses import replace
from functools import partialmethod

import pytest
import torch
from small_model import PATCHES, SIZE, SMALL, build
from torch import Tensor, nn

from emotion_runtime.errors import EmotionError
from emotion_train.batch import ClipTextBatch
from emotion_train.losses import sentiment_guided_contrastive_loss
from emotion_train.model import EmotionCLIP
from emotion_train.model.encode import encode_clips
from emotion_train.training.objective import ContrastiveObjective, Execution, PairEncoder
from emotion_train.training.parallel import World
from emotion_train.training.precision import Precision

FP32 = Precision("fp32", torch.device("cpu"))


def some_pairs(people: int = 7, frames: int = 2) -> ClipTextBatch:
    """People of four clips; some clips show several, one shows nobody."""
    random = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (5, frames, SIZE, SIZE, 3), dtype=torch.uint8, generator=random)
    pictures = torch.tensor([0, 2, 2, 1, 4, 0, 2])[:people]
    weights = torch.rand(people, frames, PATCHES, generator=random)
    tokens = torch.zeros(people, 77, dtype=torch.int64)
    tokens[:, :5] = torch.randint(1, 90, (people, 5), generator=random)
    tokens[:, 5] = 99
    return ClipTextBatch(images, pictures, weights, tokens, torch.randn(people, 7, generator=random))


def without_dropout(model: EmotionCLIP) -> EmotionCLIP:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    return model


def direct(model: EmotionCLIP, pairs: ClipTextBatch) -> tuple[float, dict[str, Tensor]]:
    """One forward pass, one loss, one backward pass."""
    video = encode_clips(model, pairs.images[pairs.clip_index], pairs.patch_weights)
    text = model.encode_text(pairs.text)
    loss = sentiment_guided_contrastive_loss(
        video / video.norm(dim=1, keepdim=True),
        text / text.norm(dim=1, keepdim=True),
        pairs.sentiment,
        logit_scale=model.logit_scale.exp(),
        beta=2.0,
    )
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def objective(model: EmotionCLIP, chunks: int) -> ContrastiveObjective:
    encoder = PairEncoder(model).train()
    return ContrastiveObjective(encoder, 2.0, "paper", World(), chunks)


@pytest.mark.parametrize("subject", ["sap", "saam", "shared", "none"])
@pytest.mark.parametrize("chunks", [1, 3, 7, 20])
def test_a_batch_in_pieces_is_the_whole_batch(subject: str, chunks: int):
    model = without_dropout(build(subject))
    expected_loss, expected = direct(model, some_pairs())
    model.zero_grad()
    loss, figures = objective(model, chunks)(some_pairs(), FP32, 0)
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    assert figures["scale"] == pytest.approx(model.logit_scale.exp().item())
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    assert "logit_scale" in found
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-4, msg=name)


def test_recomputed_blocks_have_the_same_gradients():
    for subject in ("sap", "shared"):
        model = without_dropout(build(subject))
        _, expected = direct(model, some_pairs())
        model.zero_grad()
        for module in model.modules():
            if hasattr(module, "recompute"):
                module.recompute = True
        objective(model, 2)(some_pairs(), FP32, 0)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-4, msg=name)


def test_dropout_falls_alike_when_a_piece_is_encoded_again():
    model = build("sap")
    encoder = PairEncoder(model).train()
    features: list[Tensor] = []
    encoder.register_forward_hook(lambda _m, _i, output: features.append(output[0].detach().clone()))
    step = ContrastiveObjective(encoder, 2.0, "paper", World(), 3)
    step(some_pairs(), FP32, 11)
    first, again = features[:3], features[3:]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    features.clear()
    step(some_pairs(), FP32, 12)
    assert not torch.equal(features[0], first[0])  # and not from step to step


def test_pure_bf16_halves_the_weights_and_learns_alike():
    losses = {}
    for name in ("fp32", "pure-bf16"):
        model = without_dropout(build("sap"))
        precision = Precision(name, torch.device("cpu"))
        precision.prepare(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        losses[name] = []
        for step in range(6):
            optimizer.zero_grad()
            losses[name].append(objective(model, 2)(some_pairs(), precision, step)[0])
            precision.step(optimizer, 1.0)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16, torch.float32}
    vectors = [name for name, parameter in model.named_parameters() if parameter.ndim < 2]
    assert [n for n, p in model.named_parameters() if p.dtype == torch.float32] == vectors
    assert {state["exp_avg"].dtype for state in optimizer.state.values()} == {torch.bfloat16, torch.float32}
    with precision.evaluating(), torch.no_grad():
        features = encode_clips(model, some_pairs().images, some_pairs().patch_weights[:5])
    assert features.isfinite().all()
    assert losses["pure-bf16"][-1] < losses["pure-bf16"][0] - 0.1
    assert losses["pure-bf16"] == pytest.approx(losses["fp32"], rel=0.1, abs=0.05)


def test_pure_bf16_keeps_small_steps_of_gains():
    """The authors tune mainly gains, which are about 1, at 5e-5: bfloat16 has no number so near 1."""
    model = without_dropout(build("sap"))
    precision = Precision("pure-bf16", torch.device("cpu"))
    precision.prepare(model)
    gains = {name: p for name, p in model.named_parameters() if "ln_" in name and name.endswith("weight")}
    before = {name: gain.detach().clone() for name, gain in gains.items()}
    optimizer = torch.optim.AdamW(gains.values(), lr=5e-5, weight_decay=0.0)
    objective(model, 1)(some_pairs(), precision, 0)
    precision.step(optimizer, 1.0)
    moved = [name for name, gain in gains.items() if not torch.equal(gain, before[name])]
    assert moved == list(gains)


def test_tf32_is_a_switch():
    before = torch.get_float32_matmul_precision()
    try:
        for tf32, expected in ((True, "high"), (False, "highest")):
            Precision("fp32", torch.device("cpu"), tf32=tf32)
            assert torch.get_float32_matmul_precision() == expected
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_locked_tower_needs_no_tokens_and_gets_no_gradient():
    model = without_dropout(build("sap"))
    pairs = some_pairs()
    with torch.no_grad():
        features = model.encode_text(pairs.text)
    for name, parameter in model.backbone.named_parameters():
        parameter.requires_grad_(name.startswith("visual."))
    loss, _ = objective(model, 2)(replace(pairs, text=features), FP32, 0)
    expected, _ = direct(without_dropout(build("sap")), pairs)
    assert loss == pytest.approx(expected, abs=1e-5)
    assert model.backbone.text_projection.grad is None
    assert model.backbone.visual.proj.grad is not None


def test_pieces_hold_only_the_pictures_that_they_need():
    pairs = some_pairs()
    pieces = pairs.split(3)
    assert [len(piece) for piece in pieces] == [3, 2, 2]
    row = 0
    for piece in pieces:
        assert len(piece.images) == len(set(pairs.clip_index[row : row + len(piece)].tolist()))
        for person in range(len(piece)):
            shown = pairs.images[pairs.clip_index[row]]
            assert torch.equal(piece.images[piece.clip_index[person]], shown)
            assert torch.equal(piece.text[person], pairs.text[row])
            row += 1


def test_batchnorm_must_not_see_a_part_of_the_batch_in_silence():
    model = EmotionCLIP(replace(SMALL, stem="conv"))
    with pytest.raises(EmotionError, match=r"accumulate 2: the stem's BatchNorm.*freeze_batchnorm = true"):
        Execution(accumulate=2).encoder(model)
    with pytest.raises(EmotionError, match="2 processes"):
        Execution(world=World(0, 2)).encoder(model)
    Execution().encoder(model)


def test_frozen_batchnorm_makes_pieces_exact():
    torch.manual_seed(0)
    model = without_dropout(EmotionCLIP(replace(SMALL, stem="conv", text_vocab=100)))
    statistics = {n: b.clone() for n, b in model.named_buffers()}
    gradients = []
    for chunks in (1, 3):
        model.zero_grad()
        encoder = Execution(accumulate=chunks, freeze_batchnorm=True).encoder(model).train()
        step = ContrastiveObjective(encoder, 2.0, "paper", World(), chunks)
        step(some_pairs(), FP32, 0)
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-3, msg=name)
    assert all(torch.equal(b, statistics[n]) for n, b in model.named_buffers())


def test_a_frozen_stem_keeps_its_statistics():
    model = EmotionCLIP(replace(SMALL, stem="conv", text_vocab=100))
    model.backbone.visual.stem.requires_grad_(False)
    encoder = Execution(accumulate=2).encoder(model).train()  # and then pieces are exact
    assert not any(m.training for m in encoder.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.slow
def test_compiled_the_step_is_the_same(monkeypatch: pytest.MonkeyPatch):
    """Traced forward and backward, without the minutes in which the default backend writes C++."""
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    model = without_dropout(build("sap", vision_layers=1, temporal_layers=1, text_layers=1))
    expected_loss, expected = direct(model, some_pairs())
    model.zero_grad()
    encoder = Execution(compiled=True).encoder(model).train()
    assert set(dict(encoder.named_parameters())) == {f"model.{name}" for name in expected}
    step = ContrastiveObjective(encoder, 2.0, "paper", World(), 1)
    loss, _ = step(some_pairs(), FP32, 0)
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-3, msg=name)
