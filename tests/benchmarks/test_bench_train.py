"""The benchmark of training: its operations, bytes and parts are right. How fast is never asked."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import bench_train
from emotion_bench import train_step
from emotion_bench.device import Device
from emotion_bench.loader import OldBatches
from emotion_bench.train_data import made_shards
from emotion_bench.train_step import (
    PARTS,
    StepTimer,
    measure,
    peak_memory,
    split,
    step_flops,
    wire_bytes,
)
from emotion_runtime.errors import EmotionError
from emotion_runtime.preprocess import PreprocessSpec
from emotion_train.clips.batches import ShardBatches
from emotion_train.clips.reader import ShardSet
from emotion_train.model import EmotionCLIP, ModelConfig
from emotion_train.training.loop import Stage
from emotion_train.training.objective import Execution
from emotion_train.training.precision import Precision
from emotion_train.training.stage_config import Clips
from emotion_train.training.stages import clip_stage

CPU = torch.device("cpu")
SMALL = ModelConfig(
    preprocess=PreprocessSpec(size=48, patch=16, short_side=64),
    temporal="mean",
    embed_dim=24,
    vision_width=32,
    vision_layers=3,
    vision_heads=4,
    text_width=16,
    text_layers=2,
    text_heads=2,
)
CLIPS = 8


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_shards(tmp_path_factory.mktemp("made") / "shards", clips=CLIPS, short_side=64)


def stage_of(shards: Path, batch: int = 4) -> tuple[EmotionCLIP, Stage]:
    torch.manual_seed(0)
    model = EmotionCLIP(SMALL)
    return model, clip_stage(
        model, ShardSet.open(str(shards)), Clips(batch=batch, warmup=0), seed=0, execution=Execution()
    )


def tower_flops(width: int, layers: int, rows: int, last: int | None = None) -> int:
    """Forward operations of a transformer over `rows` tokens, of whose last block `last` rows are wanted."""
    total = 0
    for layer in range(layers):
        asked = rows if last is None or layer + 1 < layers else last
        total += 2 * asked * width * width  # queries
        total += 2 * rows * width * 2 * width  # keys and values
        total += 2 * 2 * asked * rows * width  # attention: logits, and sums of values
        total += 2 * asked * width * width  # what comes out
        total += 2 * 2 * asked * width * 4 * width  # the two layers of the MLP
    return total


def clip_flops(tokens: int) -> int:
    """Forward operations of a clip and a sentence of which so many tokens are computed."""
    patches, width = SMALL.preprocess.patches, SMALL.vision_width
    frame = 2 * patches * width * 3 * 16 * 16  # patches to tokens
    frame += 2 * patches * width  # the prompt
    frame += tower_flops(width, SMALL.vision_layers, patches + 2, last=1)
    frame += 2 * width * SMALL.embed_dim
    text = tower_flops(SMALL.text_width, SMALL.text_layers, tokens)
    text += 2 * SMALL.text_width * SMALL.embed_dim
    return SMALL.clip_frames * frame + text


class Forward:
    """Only the forward pass of an objective."""

    def __init__(self, stage: Stage) -> None:
        self.objective: Any = stage.objective

    def __call__(self, batch: Any, precision: Precision, seed: int) -> tuple[float, dict[str, float]]:
        del precision, seed
        self.objective.encoder(batch.images, batch.clip_index, batch.patch_weights, batch.text)
        return 0.0, {}


def test_operations_equal_the_formula(shards: Path):
    """A backward pass does every product of the forward pass twice, but for what needs no gradient."""
    _, stage = stage_of(shards)
    batch, precision = stage.batches[0], Precision("fp32", CPU)
    forward = step_flops(Forward(stage), batch, precision)
    longest = int((batch.text != 0).sum(1).max())
    assert forward == 4 * clip_flops(longest)
    whole = step_flops(stage.objective, batch, precision)
    # Pixels and patch weights have no gradient.
    pixels = 4 * SMALL.clip_frames * 2 * SMALL.preprocess.patches * SMALL.vision_width * 3 * 16 * 16
    prompt = 4 * SMALL.clip_frames * 2 * SMALL.preprocess.patches * SMALL.vision_width
    # Similarities of the rows of either side, each with its gradient by both sides; divergences.
    loss = 6 * 2 * 4 * 4 * SMALL.embed_dim + 2 * 4 * 4 * 7
    assert whole == 3 * forward - pixels - prompt + loss


def gradients(model: EmotionCLIP, objective: Any, batch: Any) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    loss, _ = objective(batch, Precision("fp32", CPU), 7)
    return loss, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("chunks", [1, 2])
def test_timing_does_not_change_the_loss(shards: Path, chunks: int):
    model, stage = stage_of(shards)
    objective: Any = replace(stage.objective, chunks=chunks)  # type: ignore[type-var] - it is a dataclass
    batch, watch = stage.batches[0], StepTimer(Device("cpu"))
    loss, expected = gradients(model, objective, batch)
    found_loss, found = gradients(model, replace(objective, span=watch.part), batch)
    assert found_loss == loss
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    (parts,) = watch.steps
    assert set(parts) == {"forward", "loss", "backward"}
    assert min(parts.values()) > 0


def test_the_optimizer_ends_a_step():
    watch = StepTimer(Device("cpu"))
    for name in ("forward", "forward", "optimizer", "forward"):
        with watch.part(name):
            pass
    assert [list(step) for step in watch.steps] == [["forward", "optimizer"], ["forward"]]


def test_parts_sum_to_the_step():
    entries = [{"waited": 0.25, "rows_per_s": 2.0}, {"waited": 0.0, "rows_per_s": 4.0}]
    parts = [
        {"forward": 0.5, "loss": 0.1, "backward": 1.0, "optimizer": 0.2},
        {"forward": 0.3, "loss": 0.1, "backward": 1.4, "optimizer": 0.2},
    ]
    found = split(entries, parts, 8)
    assert found == pytest.approx(
        {"data": 500, "forward": 400, "loss": 100, "backward": 1200, "optimizer": 200, "other": 600}
        | {"whole": 3000}
    )


def test_before_and_now_load_the_same_clips(shards: Path):
    spec = PreprocessSpec(size=48, patch=16, short_side=64)
    now = ShardBatches(ShardSet.open(str(shards)), spec, seed=0, batch=4, frames=8)
    before = OldBatches(str(shards), spec, 4)
    for index in (0, 3):  # of two epochs
        one, other = now[index], before[index]
        for name in ("images", "text", "sentiment", "clip_index"):
            assert torch.equal(getattr(one, name), getattr(other, name))
        torch.testing.assert_close(one.patch_weights, other.patch_weights)


def test_bytes_equal_the_formula(shards: Path):
    _, stage = stage_of(shards)
    frames, size, patches = 8, 48, 9
    images, weights = frames * size * size * 3, frames * patches * 4
    assert wire_bytes(stage.batches[0]) == images + 8 + weights + 77 * 8 + 7 * 4


@pytest.mark.slow
def test_memory_is_a_high_water_mark():
    before = peak_memory(CPU)
    block = np.ones(before, np.uint8)  # as much again
    assert peak_memory(CPU) > 1.5 * before
    del block
    assert peak_memory(CPU) > 1.5 * before


def test_a_small_model_is_measured(shards: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train_step, "matmul_flops", lambda *_: 1e9)
    found = measure(SMALL, str(shards), batch=4, steps=2, workers=0, precision="fp32")
    parts = found["ms_per_step"]
    assert list(parts) == [*PARTS, "whole"]
    assert sum(parts[name] for name in PARTS) == pytest.approx(parts["whole"])
    assert min(parts.values()) > 0
    assert found["clips_per_s"] == pytest.approx(4 * 1000 / parts["whole"])
    assert found["model_flops_share"] == pytest.approx(
        found["gflop_per_clip"] * found["clips_per_s"] / found["matmul_gflop_per_s"]
    )
    assert found["matmul_gflop_per_s"] == 1
    assert found["peak_memory_mib"] > 0
    assert found["batch"] == 4


@pytest.mark.nightly
def test_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    argv = ["--quick", "--workers", "1", "--steps", "1", "--batch", "2", "--out", str(tmp_path)]
    assert bench_train.main(argv) == 0
    result = json.loads((tmp_path / "train.json").read_text())
    (preset,) = result["presets"]
    assert preset == "nano"
    assert result["shards"] == {"of": "synthetic images", "clips": 24}
    assert result["latency"]["requests_per_clip"] < 9
    page = (tmp_path / "train.md").read_text()
    assert page.strip() in capsys.readouterr().out
    assert all(f"| {part}, ms per step" in page for part in PARTS)
    assert "A quick trial: its speeds mean nothing." in page


@pytest.mark.parametrize("options", [["--batch", "1"], ["--steps", "0"], ["--workers", "-1"]])
def test_numbers_out_of_range_are_refused(capsys: pytest.CaptureFixture[str], options: list[str]):
    with pytest.raises(SystemExit):
        bench_train.main([*options, "--out", "out"])
    assert f"{' '.join(options)}: expected" in capsys.readouterr().err


def test_missing_shards_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert bench_train.main(["--shards", "/nowhere", "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bench_train: error: /nowhere/index.json: does not exist")
    assert not (tmp_path / "out").exists()


def test_too_few_clips(shards: Path):
    with pytest.raises(EmotionError, match="has 8 clips, too few for a batch of 9"):
        measure(SMALL, str(shards), batch=CLIPS + 1, steps=1, workers=0, precision="fp32")
