"""A run killed with no warning goes on as if it had not been."""

import json
import os
import shutil
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
from emotion_train.cli import main

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
    """Shards and a configuration."""
    folder = tmp_path_factory.mktemp("resume")
    write_set(folder / "shards")
    (folder / "run.toml").write_text(CONFIG)
    return folder


def resume_error(root: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line on standard error of a run that cannot be resumed."""
    capsys.readouterr()
    assert main(["pretrain", *command(root, out, "--resume")[2:]]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.nightly  # test_lasting_run.py interrupts a run in more ways
def test_killed_at_any_moment_the_next_losses_are_the_uninterrupted_runs(root: Path):
    subprocess.run(command(root, root / "whole"), check=True, capture_output=True)
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


def test_what_cannot_be_resumed_is_refused_with_the_reason(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(root, tmp_path / "run")
    root, out = tmp_path / "run", tmp_path / "out"
    config = CONFIG.replace(f"epochs = {STEPS // 5}", "epochs = 1").replace("workers = 1", "workers = 0")
    (root / "run.toml").write_text(config)
    assert main(["pretrain", *command(root, out)[2:]]) == 0
    # Other clips.
    shutil.rmtree(root / "shards")
    write_set(root / "shards", clips=24)
    assert "is of a run on other data than" in resume_error(root, out, capsys)
    # A truncated checkpoint.
    checkpoint = out / "checkpoint.pt"
    content = checkpoint.read_bytes()
    checkpoint.unlink()  # the epoch's checkpoint can be the same file
    checkpoint.write_bytes(content[:-1000])
    said = resume_error(root, out, capsys)
    assert "checkpoint.pt is incomplete or not a checkpoint: use an earlier one" in said
