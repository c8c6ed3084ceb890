"""A run killed with no warning goes on as if it had not been."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from made_shards import write_set
from tiny_run import CLIPS, PRETRAIN, TINY

from emotion_train.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow

STEPS = 30
CONFIG = TINY.replace('temporal = "mean"', "").replace("workers = 0", "workers = 1\nsave_every = 0.0") + (
    CLIPS.format(batch=4).replace("epochs = 2", f"epochs = {STEPS // 5}")
)


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def command(root: Path, out: Path, *options: str) -> list[str]:
    argv = ["--config", str(root / "run.toml"), "--data", str(root / "shards"), "--out", str(out)]
    return [sys.executable, str(PRETRAIN), *argv, *options]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards, a configuration, and a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("resume")
    write_set(folder / "shards")
    (folder / "run.toml").write_text(CONFIG)
    subprocess.run(command(folder, folder / "whole"), check=True, capture_output=True)
    return folder


@pytest.mark.nightly  # test_lasting_run.py interrupts a run in more ways
def test_killed_at_any_moment_the_next_losses_are_the_uninterrupted_runs(root: Path):
    run = root / "killed"
    process = subprocess.Popen(
        command(root, run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    log, deadline = run / "log.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and (not log.exists() or log.read_bytes().count(b"\n") < 4):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)  # with its worker, in the middle of whatever it was doing
    process.wait()
    stopped = load_checkpoint(run / "checkpoint.pt")["step"]  # saved after every step: some write was cut
    assert 1 <= stopped <= STEPS - 20
    done = subprocess.run(command(root, run, "--resume"), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"resumed at clips step {stopped}" in done.stderr
    whole, resumed = log_of(root / "whole"), log_of(run)
    assert [entry["step"] for entry in resumed] == list(range(STEPS))
    exact = ("loss", "grad_norm", "lr", "retrieval", "scale")
    assert [[e[k] for k in exact] for e in resumed] == [[e[k] for k in exact] for e in whole]
    end = load_checkpoint(root / "whole" / "checkpoint.pt")["model"]
    found = load_checkpoint(run / "checkpoint.pt")["model"]
    assert all(torch.equal(tensor, end[name]) for name, tensor in found.items())
    assert not list(run.glob(".*.tmp"))


def test_other_clips_are_not_resumed_on(root: Path, tmp_path: Path):
    write_set(tmp_path / "shards", clips=24)
    (tmp_path / "run.toml").write_text(CONFIG)
    argv = command(tmp_path, root / "whole", "--resume")
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "is of a run on other data than" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_torn_checkpoint_is_refused_with_the_reason(root: Path, tmp_path: Path):
    (tmp_path / "checkpoint.pt").write_bytes((root / "whole" / "checkpoint.pt").read_bytes()[:-1000])
    done = subprocess.run(command(root, tmp_path, "--resume"), check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "checkpoint.pt is incomplete or not a checkpoint: use an earlier one" in done.stderr
