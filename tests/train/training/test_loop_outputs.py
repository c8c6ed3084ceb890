"""What the training loop writes: the log of a resumed run, trackers, epochs and the report."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from counting_stages import entries, runner_in, stage_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from emotion_runtime.errors import EmotionError
from emotion_train.training import outputs
from emotion_train.training.loop import Progress
from emotion_train.training.outputs import cut_log
from emotion_train.training.precision import Precision
from emotion_train.training.trackers import tracker


def test_the_log_is_on_disk_before_a_checkpoint_that_counts_on_it(tmp_path: Path):
    lines: list[int] = []
    runner_in(tmp_path, save=lambda: lines.append(len(entries(tmp_path))), save_every=0.0).run(
        stage_of(3), Progress("toy")
    )
    assert lines == [1, 2, 3]


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


def test_a_run_killed_at_the_end_of_an_epoch_ends_it_when_it_is_resumed(tmp_path: Path):
    """The latest checkpoint was written, but neither that of the epoch nor the best one."""

    class Killed(BaseException):
        pass

    def kill(_epoch: int, _metrics: dict[str, float]) -> None:
        raise Killed

    progress = Progress("toy")
    with pytest.raises(Killed):
        runner_in(tmp_path, end_epoch=kill).run(replace(stage_of(4), epoch=2), progress)
    assert progress.step == 2
    last = entries(tmp_path)[-1]
    ended: list[tuple[int, float]] = []
    again = runner_in(tmp_path, end_epoch=lambda epoch, metrics: ended.append((epoch, metrics["loss"])))
    again.run(replace(stage_of(4), epoch=2), progress)
    assert ended[0] == (1, last["loss"])
    assert [epoch for epoch, _ in ended] == [1, 2]


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
