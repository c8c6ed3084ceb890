"""Pre-training on an NVIDIA GPU, in every precision, beside the same run on the CPU.

pytest -m gpu tests/train
"""

import json
import math
from pathlib import Path

import pytest
import torch
from command import Command
from made_shards import write_set
from tiny_run import CLIPS, TINY

from emotion_train.model import PRESETS

pytestmark = pytest.mark.gpu


@pytest.fixture
def pretrain_script(pretrain: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """With the real presets; the other tests' are tiny."""
    monkeypatch.setattr(pretrain, "presets", PRESETS)
    return pretrain


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_set(tmp_path / "shards")
    return tmp_path / "shards"


def losses(command: Command, shards: Path, settings: str) -> list[float]:
    run = shards.with_name(f"run {settings}")
    config = shards.with_name("run.toml")
    config.write_text(f"{settings}\n{TINY}{CLIPS.format(batch=8)}")
    assert command.main(["--config", str(config), "--data", str(shards), "--out", str(run)]) == 0
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        ("", 1e-3),
        ("accumulate = 2", 1e-3),
        ("recompute = true", 1e-3),
        ("compile = true", 1e-3),
        ("tf32 = true", 0.02),
        ('precision = "bf16"', 0.1),
        ('precision = "pure-bf16"', 0.1),
    ],
)
def test_losses_are_those_of_the_cpu(
    pretrain_script: Command, shards: Path, monkeypatch: pytest.MonkeyPatch, settings: str, tolerance: float
):
    found = losses(pretrain_script, shards, settings)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    expected = losses(pretrain_script, shards, 'precision = "fp32"')
    assert len(found) == len(expected) == 4
    assert found == pytest.approx(expected, rel=tolerance)


def test_fp16_begins_as_the_cpu_and_stays_finite(
    pretrain_script: Command, shards: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its first steps find the scale of the loss: those whose gradients overflow are skipped."""
    found = losses(pretrain_script, shards, 'precision = "fp16"')
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    expected = losses(pretrain_script, shards, 'precision = "fp32"')
    assert found[0] == pytest.approx(expected[0], rel=0.01)
    assert all(map(math.isfinite, found))


def test_two_runs_have_the_same_losses(pretrain_script: Command, shards: Path):
    first, second = (
        losses(pretrain_script, shards, settings) for settings in ("save_every = 1e9", "save_every = 2e9")
    )
    assert first == pytest.approx(second, rel=1e-6)
