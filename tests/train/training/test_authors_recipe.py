"""The shipped configuration trains as the authors did, by a second implementation of their recipe."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import authors_recipe as authors
import msgspec
import open_clip
import pytest
import torch
from made_shards import write_set
from torch import Tensor, nn

from emotion_runtime.errors import EmotionError
from emotion_train.clips.batches import ShardBatches
from emotion_train.clips.reader import ShardSet
from emotion_train.model.attention import Attention
from emotion_train.training import start
from emotion_train.training.config import PretrainConfig
from emotion_train.training.config_files import find_config, load_config, model_config
from emotion_train.training.parallel import World
from emotion_train.training.run import Run
from emotion_train.training.stages import check_schedule

STEPS, BATCH, EPOCHS, WARMUP = 10, 4, 4, 6
CLIPS = 20  # five steps an epoch
SCALE = 3.9  # of the CLIP weights; 1/0.07 would be 2.66
MODEL = {
    "vision_width": 32,
    "vision_layers": 2,
    "vision_heads": 4,
    "embed_dim": 24,
    "temporal_layers": 3,
    "temporal_heads": 4,
    "temporal_ff": 40,
    "text_width": 16,
    "text_layers": 2,
    "text_heads": 2,
    "preprocess": {"size": 48, "patch": 16, "short_side": 60},
}
SIZES = authors.Sizes(16, 2, 4, 3, 4, 2, 2)
RELEASED = {
    "backbone_vectors": 5e-5,
    "backbone_matrices": 1e-8,
    "head_vectors": 5e-5,
    "head_matrices": 1e-8,
    "scale": 1e-8,
}
# Rates at which ten steps change the loss by a lot, each different: a parameter in a wrong group shows.
LARGE = {
    "backbone_vectors": 4e-3,
    "backbone_matrices": 1e-3,
    "head_vectors": 6e-3,
    "head_matrices": 2e-3,
    "scale": 8e-3,
}
SETTINGS = {
    "backbone_vectors": "vector_lr",
    "backbone_matrices": "lr",
    "head_vectors": "head_vector_lr",
    "head_matrices": "head_lr",
    "scale": "scale_lr",
}


def small_clip() -> nn.Module:
    """Return a small CLIP of open_clip, with weights under which gains and biases have an effect."""
    torch.manual_seed(5)
    vision = open_clip.CLIPVisionCfg(layers=2, width=32, head_width=8, patch_size=16, image_size=48)
    text = open_clip.CLIPTextCfg(width=16, heads=2, layers=2)
    model = open_clip.CLIP(embed_dim=24, vision_cfg=vision, text_cfg=text)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.logit_scale.fill_(SCALE)
    return model


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    # Sentiments that differ much, so that a batch of four keeps its negatives at beta 10.
    return write_set(tmp_path / "shards", CLIPS, spread=4.0)


def shipped() -> PretrainConfig:
    return load_config(find_config("emotionclip"))


def tiny(rates: dict[str, float]) -> PretrainConfig:
    """The shipped configuration for a tiny model and few steps."""
    config = shipped()
    assert config.clips is not None
    clips = msgspec.structs.replace(
        config.clips,
        batch=BATCH,
        epochs=EPOCHS,
        warmup=WARMUP,
        **{SETTINGS[name]: peak for name, peak in rates.items()},
    )
    return msgspec.structs.replace(config, precision="fp32", workers=0, clips=clips, model=MODEL)


@dataclass(frozen=True)
class Trained:
    """A run of ours: its start, its end and its log."""

    run: Run
    start: dict[str, Tensor]
    end: dict[str, Tensor]
    log: list[dict[str, float]]


def train(config: PretrainConfig, shards: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> Trained:
    monkeypatch.setattr(start, "_openclip_model", lambda *_: small_clip())
    out = shards.parent / "run"
    torch.manual_seed(0)
    sizes = model_config(config.preset, config.model)
    run = Run(config, sizes, data=str(shards), out=out, world=World(), resume=False)
    for module in run.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, Attention):
            module.dropout = 0.0
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    run.train(max_steps=steps)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return Trained(run, before, run.model.state_dict(), log)


def train_again(
    start: dict[str, Tensor], shards: Path, config: PretrainConfig, peaks: dict[str, float]
) -> tuple[list[float], dict[str, Tensor]]:
    """The second implementation: losses of the steps, and the weights after them."""
    batches = ShardBatches(
        ShardSet.open(str(shards)),
        model_config(config.preset, config.model).preprocess,
        seed=config.seed + 2,
        batch=BATCH,
        frames=8,
    )
    weights = {name: tensor.double().requires_grad_() for name, tensor in start.items()}
    optimizer, losses = authors.AdamW(weights), []
    for step in range(STEPS):
        batch = batches[step]
        frames = authors.encode_frames(
            batch.images.flatten(0, 1), batch.patch_weights.flatten(0, 1), weights, SIZES
        )
        video = authors.encode_temporal(frames.reshape(BATCH, 8, -1), weights, SIZES)
        text = authors.encode_text(batch.text, weights, SIZES)
        loss = authors.contrastive_loss(video, text, batch.sentiment, weights["logit_scale"], beta=10.0)
        found = torch.autograd.grad(loss, list(weights.values()))
        rates = {
            name: authors.rate(step, peak, epoch=CLIPS // BATCH, epochs=EPOCHS, warmup=WARMUP)
            for name, peak in peaks.items()
        }
        optimizer.step(weights, dict(zip(weights, found, strict=True)), rates)
        losses.append(loss.item())
    return losses, {name: tensor.detach() for name, tensor in weights.items()}


def test_the_shipped_settings_are_the_released_ones():
    config = shipped()
    clips = config.clips
    assert clips is not None
    assert {name: getattr(clips, setting) for name, setting in SETTINGS.items()} == RELEASED
    assert (clips.betas, clips.eps, clips.weight_decay) == ((0.98, 0.9), 1e-6, 0.1)
    assert (clips.epochs, clips.batch, clips.warmup, clips.warmup_start) == (25, 128, 10_000, 1e-5)
    assert (clips.final_lr, clips.beta, clips.kl_direction) == (1e-10, 10.0, "official")
    assert clips.epoch_steps
    assert clips.clip_norm is None
    assert config.precision == "fp16"
    assert (config.start.clip, config.start.temporal, config.start.temperature) == (
        "laion2b_e16",
        "authors",
        "kept",
    )


def test_the_start_is_the_authors(shards: Path, monkeypatch: pytest.MonkeyPatch):
    found = train(tiny(RELEASED), shards, monkeypatch, 0).start
    clip = small_clip().state_dict()
    for name, tensor in clip.items():
        own = name if name == "logit_scale" else f"backbone.{name}"
        assert torch.equal(found.pop(own), tensor), name
    assert all(name.startswith("visual_head.") for name in found)
    positions = found["visual_head.frame_position_embedding.weight"]
    assert positions.std().item() == pytest.approx(1.0, abs=0.2)
    assert positions.mean().item() == pytest.approx(0.0, abs=0.3)
    layers = [
        {name.split(".", 4)[4]: t for name, t in found.items() if f"fusion_layer.layers.{i}." in name}
        for i in range(3)
    ]
    for layer in layers[1:]:
        assert all(torch.equal(tensor, layers[0][name]) for name, tensor in layer.items())
    # As nn.TransformerEncoderLayer begins: Xavier's bound for the projections, 1 / sqrt(inputs) elsewhere.
    bounds = {
        "self_attn.in_proj_weight": math.sqrt(6 / (24 + 72)),
        "self_attn.out_proj.weight": 24**-0.5,
        "linear1.weight": 24**-0.5,
        "linear2.weight": 40**-0.5,
    }
    for name, bound in bounds.items():
        assert 0.9 * bound < layers[0][name].abs().max().item() <= bound, name
        assert layers[0][name].std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1), name
    for name in ("self_attn.in_proj_bias", "self_attn.out_proj.bias", "norm1.bias", "norm2.bias"):
        assert not layers[0][name].any(), name
    assert all((layers[0][f"norm{i}.weight"] == 1).all() for i in (1, 2))


def test_the_parameter_groups_are_the_authors(shards: Path, monkeypatch: pytest.MonkeyPatch):
    run = train(tiny(LARGE), shards, monkeypatch, 0).run
    optimizer = run.state.optimizer
    assert optimizer is not None
    found = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    named = dict(run.model.named_parameters())
    assert len(found) == len(named)
    for name, parameter in named.items():
        peak, decay = authors.group_of(name, parameter)
        group = found[id(parameter)]
        assert (group["peak_lr"], group["weight_decay"]) == (LARGE[peak], decay), name
        assert (group["betas"], group["eps"]) == ((0.98, 0.9), 1e-6)


@pytest.mark.parametrize("peaks", [RELEASED, LARGE], ids=["released", "large"])
def test_ten_steps_are_the_authors(peaks: dict[str, float], shards: Path, monkeypatch: pytest.MonkeyPatch):
    config = tiny(peaks)
    ours = train(config, shards, monkeypatch, STEPS)
    losses, weights = train_again(ours.start, shards, config, peaks)
    assert [entry["loss"] for entry in ours.log] == pytest.approx(losses, rel=1e-4)
    rates = [
        authors.rate(step, peaks["backbone_vectors"], epoch=CLIPS // BATCH, epochs=EPOCHS, warmup=WARMUP)
        for step in range(STEPS)
    ]
    assert [entry["lr"] for entry in ours.log] == pytest.approx(rates, rel=1e-9)
    for name, tensor in weights.items():
        ended, began = ours.end[name].double(), ours.start[name].double()
        if name.endswith("in_proj_bias"):  # a bias of keys has no effect: its gradient is rounding
            keys = slice(len(tensor) // 3, 2 * len(tensor) // 3)
            ended[keys] = tensor[keys] = began[keys]
        torch.testing.assert_close(ended, tensor, rtol=1e-4, atol=2e-6, msg=name)
    if peaks is LARGE:  # the comparison would see a difference
        assert abs(losses[-1] - losses[0]) > 0.1 * losses[0]
        assert abs(float(ours.end["logit_scale"]) - SCALE) > 0.01


def test_a_warm_up_longer_than_the_run_is_refused_with_numbers_that_fit(
    shards: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(start, "_openclip_model", lambda *_: pytest.fail("the weights were read first"))
    config = tiny(RELEASED)
    assert config.clips is not None
    config = msgspec.structs.replace(config, clips=msgspec.structs.replace(config.clips, warmup=10_000))
    with pytest.raises(EmotionError) as error:
        Run(
            config,
            model_config(config.preset, config.model),
            data=str(shards),
            out=shards.parent / "run",
            world=World(),
            resume=False,
        )
    assert str(error.value) == (
        "[clips] warmup 10000 is longer than the run: 4 epochs of 5 steps are 20 steps; set warmup to at "
        "most 19 (the authors' share would be 8), or epochs to at least 2001"
    )
    assert not (shards.parent / "run").exists()
    clips = config.clips
    assert clips is not None
    check_schedule(msgspec.structs.replace(clips, warmup=19), 5)
    check_schedule(msgspec.structs.replace(clips, epochs=2001), 5)
    for changes in ({"warmup": 20}, {"epochs": 2000}):
        with pytest.raises(EmotionError):
            check_schedule(msgspec.structs.replace(clips, **changes), 5)


def test_an_optimizer_of_other_groups_is_not_resumed(shards: Path, monkeypatch: pytest.MonkeyPatch):
    config = tiny(RELEASED)
    train(config, shards, monkeypatch, 2)
    checkpoint = shards.parent / "run" / "checkpoint.pt"
    payload = torch.load(checkpoint, weights_only=True)
    groups = payload["state"]["optimizer"]["param_groups"]
    groups[0]["params"] += groups.pop(1)["params"]  # as before the parts had rates of their own
    torch.save(payload, checkpoint)
    sizes = model_config(config.preset, config.model)
    run = Run(config, sizes, data=str(shards), out=shards.parent / "run", world=World(), resume=True)
    with pytest.raises(EmotionError, match=r"of another version.*start a new run from it, with \[start\]"):
        run.train()
