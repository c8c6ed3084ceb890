import json
import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import Dataset

from emotion_runtime.errors import EmotionError
from emotion_train.training import loop, outputs
from emotion_train.training.loop import Progress, Runner, SimpleObjective, Stage
from emotion_train.training.optim import Schedule
from emotion_train.training.outputs import Outputs, cut_log
from emotion_train.training.parallel import World
from emotion_train.training.precision import Precision
from emotion_train.training.preemption import noting_signals
from emotion_train.training.stalls import watching
from emotion_train.training.trackers import tracker

CPU = torch.device("cpu")


class Numbers(Dataset[Tensor]):
    """Item i: four numbers drawn from the seed i."""

    def __getitem__(self, index: int) -> Tensor:
        return torch.randn(4, 3, generator=torch.Generator().manual_seed(index))


def stage_of(steps: int, *, scale: Callable[[int], float] = lambda _: 1.0, dropout: float = 0.0) -> Stage:
    """A linear layer on its way to zero output; `scale` of the step number multiplies the loss."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 2), nn.Dropout(dropout))
    calls = iter(range(10**6))

    def loss(batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        value = module(batch).square().mean() * scale(next(calls))
        return value, {"first": float(batch[0, 0])}

    optimizer = torch.optim.SGD([{"params": list(module.parameters()), "lr": 0.1, "peak_lr": 0.1}])
    return Stage("toy", Numbers(), SimpleObjective(loss), optimizer, (module,), Schedule(steps, warmup=2))


def runner_in(folder: Path, **changes: Any) -> Runner:
    settings = {
        "seed": 0,
        "precision": Precision("fp32", CPU),
        "world": World(),
        "workers": 0,
    }
    written = {"log": folder / "log.jsonl", "save": lambda: None, "save_every": 1e9}
    names = {field.name for field in fields(Outputs)}
    written |= {name: changes.pop(name) for name in names & changes.keys()}
    return Runner(**settings | changes, outputs=Outputs(**written))


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


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


def test_the_log_is_on_disk_before_a_checkpoint_that_counts_on_it(tmp_path: Path):
    lines: list[int] = []
    runner_in(tmp_path, save=lambda: lines.append(len(entries(tmp_path))), save_every=0.0).run(
        stage_of(3), Progress("toy")
    )
    assert lines == [1, 2, 3]


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


# --- the log of a resumed run


def write_log(path: Path, steps: list[tuple[str, int]], corrupt: str = "") -> None:
    path.write_text(
        "".join(json.dumps({"stage": s, "step": n, "loss": 1.0}) + "\n" for s, n in steps) + corrupt
    )


def steps_in(path: Path) -> list[tuple[str, int]]:
    return [(entry["stage"], entry["step"]) for entry in map(json.loads, path.read_text().splitlines())]


@pytest.mark.parametrize("corrupt", ["", '{"stage": "scenes", "st'])
def test_steps_after_the_checkpoint_leave_the_log(corrupt: str, tmp_path: Path):
    log = tmp_path / "log.jsonl"
    done = [("text", 0), ("text", 1), ("stem", 0), ("stem", 1), ("scenes", 0)]
    for stage, step, kept in (("scenes", 0, 4), ("stem", 1, 3), ("text", 0, 0), ("scenes", 5, 5)):
        write_log(log, done, corrupt)
        cut_log(log, stage, step, ("text", "stem", "scenes"))
        assert steps_in(log) == done[:kept]
    write_log(log, done)
    cut_log(log, "scenes", 0, ("scenes",))  # the warm-ups were taken out of the config
    assert steps_in(log) == done[:4]
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_run_without_a_log_can_resume(tmp_path: Path):
    cut_log(tmp_path / "log.jsonl", "text", 3, ("text",))
    assert not (tmp_path / "log.jsonl").exists()


def test_a_stage_of_no_steps_left_only_saves(tmp_path: Path):
    saved: list[bool] = []
    stage = stage_of(2)
    runner_in(tmp_path, save=lambda: saved.append(True)).run(stage, Progress("toy", step=2))
    assert saved == [True]
    assert entries(tmp_path) == []


def test_figures_are_taken_now_and_then_and_after_the_last_step(tmp_path: Path):
    taken: list[int] = []
    progress = Progress("toy")

    def evaluate() -> dict[str, float]:
        stage.modules[0].eval()
        taken.append(progress.step)
        return {"val_toy": 0.5}

    stage = replace(stage_of(7), evaluate=evaluate, evaluate_every=3)
    runner_in(tmp_path).run(stage, progress)
    assert taken == [2, 5, 6]
    assert [entry["step"] for entry in entries(tmp_path) if entry.get("val_toy") == 0.5] == taken
    assert stage.modules[0].training  # whatever the evaluation left it in


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


def test_tensorboard_takes_back_the_steps_after_the_checkpoint(tmp_path: Path):
    trackers = [tracker("tensorboard", tmp_path, {})]
    runner_in(tmp_path, trackers=trackers).run(stage_of(4), Progress("toy"))
    runner_in(tmp_path, trackers=trackers).run(stage_of(6), Progress("toy", step=2))  # killed after step 3
    events = EventAccumulator(str(tmp_path / "tensorboard" / "toy"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(6))
    written = {entry["step"]: entry["loss"] for entry in entries(tmp_path)}
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(
        [written[step] for step in range(6)], rel=1e-6
    )


class FakeWandb:
    """Notes what it is given; every method returns it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, name: str) -> Callable[..., "FakeWandb"]:
        def call(*given: Any, **named: Any) -> "FakeWandb":
            self.calls.append((name, given[0] if given else named))
            return self

        return call


def test_wandb_gets_every_step_and_stays_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    trackers = [tracker("wandb", tmp_path, {"seed": 3})]
    runner_in(tmp_path, trackers=trackers).run(stage_of(2), Progress("toy"))
    assert [name for name, _ in wandb.calls] == ["init", "log", "log", "finish"]
    started = wandb.calls[0][1]
    assert (started["mode"], started["config"], started["dir"]) == ("offline", {"seed": 3}, str(tmp_path))
    assert [metrics["loss"] for _, metrics in wandb.calls[1:3]] == [e["loss"] for e in entries(tmp_path)]


def test_wandb_that_is_not_installed_is_an_error_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(EmotionError, match=r'trackers = \["wandb"\]: .*run pip install wandb'):
        tracker("wandb", tmp_path, {})


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


# --- outputs while a stage trains


def test_the_log_can_be_followed_while_it_is_written(tmp_path: Path):
    seen: list[int] = []
    stage = stage_of(4)
    inner = stage.objective

    def spy(batch: Tensor, precision: Precision, seed: int) -> tuple[float, dict[str, float]]:
        seen.append(len(entries(tmp_path)))
        return inner(batch, precision, seed)

    runner_in(tmp_path).run(replace(stage, objective=spy), Progress("toy"))
    assert seen == [0, 1, 2, 3]


def test_epochs_end_with_a_checkpoint_and_their_metrics(tmp_path: Path):
    events: list[Any] = []
    runner = runner_in(
        tmp_path,
        save=lambda: events.append("save"),
        end_epoch=lambda epoch, metrics: events.append((epoch, "loss" in metrics)),
        report=lambda: events.append("report"),
    )
    runner.run(replace(stage_of(5), epoch=2), Progress("toy"))
    assert events == ["save", (1, True), "save", (2, True), "save", "report"]
    events.clear()
    runner.run(replace(stage_of(4), epoch=2), Progress("toy"))
    assert events == ["save", (1, True), "save", (2, True), "report"]  # the last is not written twice


def test_the_report_is_written_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outputs, "FIRST_REPORT", 0.0)
    reports: list[int] = []
    runner = runner_in(tmp_path, report=lambda: reports.append(len(entries(tmp_path))))
    runner.run(stage_of(4), Progress("toy"))
    assert reports == [1, 4]
    monkeypatch.setattr(outputs, "REPORT_EVERY", 0.0)
    reports.clear()
    runner.run(stage_of(4), Progress("toy", step=1))
    assert len(reports) == 4


# --- signals


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
