"""The loop every stage of a run goes through: steps, progress, log, checkpoints."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from emotion_runtime.errors import EmotionError
from emotion_train.schedule import warmup_cosine


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run.

    batches: item i is the batch of step i. loss: of one batch, with figures for the log. rows: of a batch.
    modules: what is trained, put in training mode. warmup: steps of rising rate.
    """

    name: str
    steps: int
    batches: Dataset[Any]
    loss: Callable[[Any], tuple[Tensor, dict[str, float]]]
    rows: Callable[[Any], int]
    optimizer: torch.optim.Optimizer
    modules: tuple[nn.Module, ...]
    warmup: int = 60
    clip_norm: float = 1.0


@dataclass(slots=True)
class Progress:
    """Where a run stands: the stage, and the next step of it."""

    stage: str
    step: int = 0
    budget: int | None = None  # steps left of --max-steps; None: no limit

    def spent(self) -> bool:
        """No step is left to take."""
        return self.budget is not None and self.budget <= 0


@dataclass(frozen=True, slots=True)
class Runner:
    """How the steps of any stage are taken.

    save: writes a checkpoint of everything. save_every: seconds. log: JSONL file, one line a step.
    """

    seed: int
    bf16: bool
    device: torch.device
    workers: int
    save: Callable[[], None]
    save_every: float
    log: Path

    def run(self, stage: Stage, progress: Progress) -> None:
        """Take the stage's remaining steps (or as many as the budget allows), saving now and then.

        Raises:
            EmotionError: the loss is not finite.
        """
        for module in stage.modules:
            module.train()
        saved = time.monotonic()
        batches = self._batches(stage, progress.step)
        first = progress.step
        with (
            self.log.open("a", encoding="utf-8") as log,
            tqdm(total=stage.steps, initial=first, desc=stage.name, unit="step", dynamic_ncols=True) as bar,
        ):
            while progress.step < stage.steps and not progress.spent():
                started = time.monotonic()
                batch = next(batches)
                waited = time.monotonic() - started
                figures = self._step(stage, batch, progress.step)
                seconds = time.monotonic() - started
                figures |= {"rows_per_s": stage.rows(batch) / seconds, "waited": waited / seconds}
                log.write(json.dumps({"stage": stage.name, "step": progress.step, **figures}) + "\n")
                progress.step += 1
                if progress.budget is not None:
                    progress.budget -= 1
                bar.set_postfix({k: f"{v:.3g}" for k, v in figures.items()}, refresh=False)
                bar.update()
                if time.monotonic() - saved >= self.save_every:
                    log.flush()
                    self.save()
                    saved = time.monotonic()
        self.save()

    def _batches(self, stage: Stage, start: int) -> Iterator[Any]:
        loader: DataLoader[Any] = DataLoader(
            stage.batches,
            batch_size=None,
            sampler=_From(start, stage.steps),
            num_workers=self.workers,
            prefetch_factor=4 if self.workers else None,
            worker_init_fn=_one_thread,
        )
        return iter(loader)

    def _step(self, stage: Stage, batch: Any, step: int) -> dict[str, float]:
        # Dropout's randomness depends on the step alone, so a resumed run repeats it.
        torch.manual_seed(self.seed * 1_000_003 + step)
        factor = warmup_cosine(step, steps=stage.steps, warmup=min(stage.warmup, stage.steps // 4 + 1))
        for group in stage.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        stage.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss, figures = stage.loss(batch)
        if not torch.isfinite(loss):
            raise EmotionError(
                f"{stage.name}: the loss is {loss.item()} at step {step}; lower lr, or train in fp32, "
                "and resume from the last checkpoint"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [p for group in stage.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, stage.clip_norm)
        stage.optimizer.step()
        return {
            "loss": loss.item(),
            **figures,
            "grad_norm": norm.item(),
            "lr": stage.optimizer.param_groups[0]["lr"],
        }


class _From(Sampler[int]):
    """Steps start .. stop - 1 in order."""

    def __init__(self, start: int, stop: int) -> None:
        self._range = range(start, stop)

    def __iter__(self) -> Iterator[int]:
        return iter(self._range)

    def __len__(self) -> int:
        return len(self._range)


def _one_thread(worker: int) -> None:
    """Drawing workers sit beside the training threads: one core each."""
    import cv2  # noqa: PLC0415

    del worker
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def cut_log(log: Path, stage: str, step: int, stages: tuple[str, ...]) -> None:
    """Drop lines of steps that a resumed run will take again; stages no longer there lie behind it."""
    if not log.is_file():
        return
    order = {name: number for number, name in enumerate(stages)}
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break  # a line torn by a kill; everything after the last checkpoint is repeated anyway
        if (order.get(entry["stage"], -1), entry["step"]) < (order[stage], step):
            kept.append(line + "\n")
    partial = log.with_suffix(".tmp")
    partial.write_text("".join(kept), encoding="utf-8")
    partial.replace(log)
