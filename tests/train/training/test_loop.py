"""The loop of all training stages: its steps, its batches, and what ends it."""

import math
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from counting_stages import CPU, Numbers, entries, runner_in, stage_of
from torch import Tensor
from torch.utils.data import Dataset

from emotion_runtime.errors import EmotionError
from emotion_train.training import loop
from emotion_train.training.loop import Progress
from emotion_train.training.parallel import World
from emotion_train.training.precision import Precision
from emotion_train.training.preemption import noting_signals
from emotion_train.training.stalls import watching


def test_every_step_takes_its_own_batch_at_its_own_rate(tmp_path: Path):
    stage = stage_of(12)
    stage.modules[0].eval()
    runner_in(tmp_path).run(stage, Progress("toy"))
    log = entries(tmp_path)
    assert [(entry["stage"], entry["step"]) for entry in log] == [("toy", step) for step in range(12)]
    assert [entry["first"] for entry in log] == [float(Numbers()[step][0, 0]) for step in range(12)]
    factors = [0.5, 1.0] + [(1 + math.cos(math.pi * step / 10)) / 2 for step in range(10)]
    assert [entry["lr"] for entry in log] == pytest.approx([0.1 * factor for factor in factors])
    assert stage.modules[0].training
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    assert all(entry["rows_per_s"] > 0 for entry in log)


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_a_stopped_stage_goes_on_as_if_it_had_not_been(stop: int, tmp_path: Path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    runner_in(whole).run(stage_of(6, dropout=0.5), Progress("toy"))
    stage, progress = stage_of(6, dropout=0.5), Progress("toy", budget=stop)
    runner_in(parts).run(stage, progress)
    assert progress.step == stop
    assert progress.spent()
    torch.manual_seed(99)  # another process
    runner_in(parts).run(stage, Progress("toy", step=stop))
    assert [entry["loss"] for entry in entries(parts)] == [entry["loss"] for entry in entries(whole)]
    assert [entry["step"] for entry in entries(parts)] == list(range(6))


def test_it_saves_at_the_end_and_when_time_is_up(tmp_path: Path):
    saved: list[int] = []
    progress = Progress("toy")
    runner_in(tmp_path, save=lambda: saved.append(progress.step), save_every=0.0).run(stage_of(3), progress)
    assert saved == [1, 2, 3]
    saved.clear()
    progress.step = 0
    runner_in(tmp_path, save=lambda: saved.append(progress.step)).run(stage_of(3), progress)
    assert saved == [3]


def test_gradients_are_clipped(tmp_path: Path):
    stage = stage_of(1, scale=lambda _: 1e6)
    before = [parameter.detach().clone() for parameter in stage.modules[0].parameters()]
    runner_in(tmp_path).run(stage, Progress("toy"))
    after = list(stage.modules[0].parameters())
    moved = torch.cat([(a - b).flatten() for a, b in zip(after, before, strict=True)]).norm()
    assert entries(tmp_path)[0]["grad_norm"] > 1e3
    assert moved.item() == pytest.approx(entries(tmp_path)[0]["lr"] * stage.clip_norm, rel=1e-3)


def test_bf16_is_of_products_only(tmp_path: Path):
    seen: list[torch.dtype] = []
    stage = stage_of(1)
    handle = stage.modules[0].register_forward_hook(lambda _m, _i, output: seen.append(output.dtype))
    runner_in(tmp_path, precision=Precision("bf16", CPU)).run(stage, Progress("toy"))
    handle.remove()
    assert seen == [torch.bfloat16]
    assert {parameter.dtype for parameter in stage.modules[0].parameters()} == {torch.float32}


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path):
    saved: list[bool] = []
    stage = stage_of(5, scale=lambda call: math.nan if call == 2 else 1.0)
    with pytest.raises(EmotionError, match="toy: the loss is nan at step 2; lower lr"):
        runner_in(tmp_path, save=lambda: saved.append(True)).run(stage, Progress("toy"))
    assert saved == []  # the last good checkpoint stays
    assert all(torch.isfinite(parameter).all() for parameter in stage.modules[0].parameters())


def test_a_stage_of_no_steps_left_only_saves(tmp_path: Path):
    saved: list[bool] = []
    stage = stage_of(2)
    runner_in(tmp_path, save=lambda: saved.append(True)).run(stage, Progress("toy", step=2))
    assert saved == [True]
    assert entries(tmp_path) == []


def test_processes_share_the_batches_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop, "in_any_process", lambda fact, _world: fact)  # there is no second process
    monkeypatch.setattr(loop, "watching", lambda _world, stage, limit: watching(World(), stage, limit))
    seen = {}
    for rank in (0, 1):
        folder = tmp_path / str(rank)
        folder.mkdir()
        stage = stage_of(3)
        firsts: list[float] = []
        inner = stage.objective

        def spy(
            batch: Tensor, precision: Precision, seed: int, inner: Any = inner, into: list[float] = firsts
        ) -> tuple[float, dict[str, float]]:
            into.append(float(batch[0, 0]))
            return inner(batch, precision, seed)

        saved: list[bool] = []
        runner = runner_in(folder, world=World(rank, 2), save=lambda saved=saved: saved.append(True))
        runner.run(replace(stage, objective=spy), Progress("toy"))
        seen[rank] = firsts
        assert saved == [True] * (rank == 0)  # one process writes
        assert (folder / "log.jsonl").exists() == (rank == 0)
    drawn = [float(Numbers()[i][0, 0]) for i in range(6)]
    assert (seen[0], seen[1]) == (drawn[0::2], drawn[1::2])


def test_half_precision_with_a_scaled_loss_needs_cuda():
    with pytest.raises(
        EmotionError, match='precision "fp16" needs CUDA, and this is a CPU: set it to "bf16"'
    ):
        Precision("fp16", CPU)


def test_workers_start_whatever_threads_the_process_has(tmp_path: Path):
    """OpenCV's threads once made a forked worker wait forever."""
    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (0, 0), 9)
    runner_in(tmp_path, workers=1).run(stage_of(2), Progress("toy"))
    assert [entry["first"] for entry in entries(tmp_path)] == [float(Numbers()[i][0, 0]) for i in (0, 1)]


def test_a_gradient_that_is_no_number_changes_nothing(tmp_path: Path):
    stage = stage_of(3)
    module = stage.modules[0]
    before = [parameter.detach().clone() for parameter in module.parameters()]
    module[0].weight.register_hook(lambda gradient: gradient * math.inf)
    saved: list[bool] = []
    with pytest.raises(EmotionError, match=r"toy: at step 0 a gradient is not finite .*; lower lr"):
        runner_in(tmp_path, save=lambda: saved.append(True), save_every=0.0).run(stage, Progress("toy"))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))
    assert saved == []


class Broken(Dataset[Tensor]):
    """Its third batch cannot be had."""

    def __getitem__(self, index: int) -> Tensor:
        if index == 2:
            raise EmotionError("shard 7 is corrupt: copy it again")
        return Numbers()[index]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_worker_cannot_read_is_said_in_its_one_line(workers: int, tmp_path: Path):
    stage = replace(stage_of(5), batches=Broken())
    with pytest.raises(EmotionError) as error:
        runner_in(tmp_path, workers=workers).run(stage, Progress("toy"))
    assert str(error.value) == "shard 7 is corrupt: copy it again"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_ends_the_stage_after_its_step_with_a_checkpoint(
    number: signal.Signals, workers: int, tmp_path: Path
):
    stage, progress, saved = stage_of(50), Progress("toy"), []
    inner = stage.objective

    def preempted_at_2(batch: Tensor, precision: Precision, seed: int) -> tuple[float, dict[str, float]]:
        if progress.step == 2:
            for child in multiprocessing.active_children():  # as a batch system signals all of them
                os.kill(child.pid, number)
            os.kill(os.getpid(), number)
        return inner(batch, precision, seed)

    before = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)]
    with noting_signals() as preemption:
        runner = runner_in(tmp_path, workers=workers, save=lambda: saved.append(progress.step))
        runner = replace(runner, preempted=lambda: preemption.signal)
        runner.run(replace(stage, objective=preempted_at_2), progress)
    assert progress.stopped_by == number.name
    assert saved == [progress.step] == [3]
    assert [entry["step"] for entry in entries(tmp_path)] == [0, 1, 2]
    assert [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)] == before


def test_a_signal_before_the_first_step_saves_the_start(tmp_path: Path):
    saved: list[int] = []
    progress = Progress("toy")
    runner = runner_in(tmp_path, save=lambda: saved.append(progress.step))
    replace(runner, preempted=lambda: "SIGTERM").run(stage_of(3), progress)
    assert saved == [0]
    assert progress.stopped_by == "SIGTERM"
