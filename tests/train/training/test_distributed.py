"""Two real processes under torchrun, against one with the joined batch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from made_shards import write_set
from small_model import build
from test_objective import direct, some_pairs, without_dropout
from test_supervised_step import classifier_of_seven, supervised_pairs
from test_supervised_step import direct as direct_supervised
from tiny_run import CLIPS, PRETRAIN, TINY

from emotion_train.checkpoint import load_checkpoint
from emotion_train.cli import main

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent


def torchrun(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", *argv]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{HERE}:{HERE.parent}:{os.environ.get('PYTHONPATH', '')}",
    }
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes computed, in files NAME.RANK."""
    out = tmp_path_factory.mktemp("steps")
    done = torchrun(str(HERE / "distributed_worker.py"), str(out))
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize("name", ["whole", "chunks"])
def test_two_processes_have_the_loss_and_gradients_of_the_joined_batch(name: str, steps: Path):
    loss, expected = direct(without_dropout(build("sap")), some_pairs())
    for rank in (0, 1):
        found = torch.load(steps / f"{name}.{rank}", weights_only=True)
        assert found["loss"] == pytest.approx(loss, abs=1e-5)
        assert found["gradients"].keys() == expected.keys()
        for key, gradient in found["gradients"].items():
            torch.testing.assert_close(gradient, expected[key], atol=1e-5, rtol=1e-5, msg=f"{rank} {key}")


def test_two_processes_have_the_gradients_of_the_joined_supervised_batch(steps: Path):
    """Four rows and three: a mean of the processes' means would weigh them wrongly."""
    model, classifier = without_dropout(build("sap")), classifier_of_seven()
    contrastive, _, expected = direct_supervised(model, classifier, supervised_pairs())
    for rank in (0, 1):
        found = torch.load(steps / f"supervised.{rank}", weights_only=True)
        assert found["loss"] > contrastive
        assert len(found["gradients"]) == len(expected)
        for name, gradient in found["gradients"].items():
            wanted = expected[name if name.startswith("classifier.") else f"model.{name}"]
            torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=1e-4, msg=f"{rank} {name}")


def test_a_signal_to_one_process_ends_both(steps: Path):
    """Neither got one, the first, the second."""
    assert [torch.load(steps / f"ends.{rank}") for rank in (0, 1)] == [[False, True, True]] * 2


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_run_of_two_processes_is_that_of_one_with_twice_the_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Through pretrain.py: the same clips in the same steps, the same losses and the same weights."""
    shards = str(write_set(tmp_path / "shards"))
    runs = {}
    for name, batch in (("one", 8), ("two", 4)):
        config, out = tmp_path / f"{name}.toml", tmp_path / name
        config.write_text(TINY + CLIPS.format(batch=batch))
        argv = ["--config", str(config), "--data", shards, "--out", str(out)]
        if name == "one":
            assert main(["pretrain", *argv]) == 0
        else:
            done = torchrun(str(PRETRAIN), *argv)
            assert done.returncode == 0, done.stderr
        runs[name] = log_of(out)
    assert [entry["step"] for entry in runs["two"]] == [0, 1, 2, 3]  # 20 clips, 8 a step, 2 epochs
    for one, two in zip(runs["one"], runs["two"], strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)
        assert two["retrieval"] == one["retrieval"]
    weights = {name: load_checkpoint(tmp_path / name / "checkpoint.pt") for name in runs}
    for name, tensor in weights["one"]["model"].items():
        torch.testing.assert_close(weights["two"]["model"][name], tensor, atol=1e-4, rtol=1e-3, msg=name)
    # Half as many processes would see other batches.
    capsys.readouterr()
    assert main(["pretrain", *argv, "--resume"]) == 2
    said = (
        "is of a run of 2 processes, and this has 1 (set clips.batch to 8, so that a step has the same clips"
    )
    assert f"{said}): resume with the config" in capsys.readouterr().err
