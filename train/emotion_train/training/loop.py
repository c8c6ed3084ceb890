"""The loop every stage of a run goes through: steps, progress, log, checkpoints."""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from emotion_runtime.errors import EmotionError
from emotion_train.training.optim import Schedule
from emotion_train.training.parallel import World
from emotion_train.training.precision import Precision


class Objective(Protocol):
    """Leaves the gradients of a batch in the parameters."""

    def __call__(self, batch: Any, precision: Precision, seed: int) -> tuple[float, dict[str, float]]:
        """The loss, with figures for the log. seed: of the step, for dropout and whatever else is random."""
        ...


@dataclass(frozen=True, slots=True)
class SimpleObjective:
    """For a loss that is a mean over rows. loss: of one batch, with figures for the log."""

    loss: Callable[[Any], tuple[Tensor, dict[str, float]]]

    def __call__(self, batch: Any, precision: Precision, seed: int) -> tuple[float, dict[str, float]]:
        """As in `Objective`."""
        torch.manual_seed(seed)
        with precision.autocast():
            loss, figures = self.loss(batch)
        precision.scaled(loss).backward()  # type: ignore[no-untyped-call]
        return loss.item(), figures


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run.

    batches: item i is the batch of step i; of step i // n in process i % n where n processes train.
    rows: of a batch. modules: what is trained, put in training mode. after_step: called after each step.
    evaluate: figures for the log, taken every `evaluate_every` steps and after the last; 0: never.
    """

    name: str
    batches: Dataset[Any]
    objective: Objective
    optimizer: torch.optim.Optimizer
    modules: tuple[nn.Module, ...]
    schedule: Schedule
    clip_norm: float = 1.0
    after_step: Callable[[], None] = lambda: None
    evaluate: Callable[[], dict[str, float]] = dict
    evaluate_every: int = 0
    rows: Callable[[Any], int] = len

    @property
    def steps(self) -> int:
        """How many there are."""
        return self.schedule.steps

    def evaluated(self, step: int) -> bool:
        """Whether figures are taken after this step."""
        return bool(self.evaluate_every) and ((step + 1) % self.evaluate_every == 0 or step + 1 == self.steps)


@dataclass(slots=True)
class Progress:
    """Where a run stands: the stage, and the next step of it."""

    stage: str
    step: int = 0
    budget: int | None = None  # steps left of --max-steps; None: no limit

    def spent(self) -> bool:
        """No step is left to take."""
        return self.budget is not None and self.budget <= 0

    def took_step(self) -> None:
        """Count a step."""
        self.step += 1
        if self.budget is not None:
            self.budget -= 1


@dataclass(frozen=True, slots=True)
class Runner:
    """How the steps of any stage are taken.

    save: writes a checkpoint of everything. save_every: seconds. log: JSONL file, one line a step.
    board: folder for TensorBoard; None: without.
    """

    seed: int
    precision: Precision
    world: World
    workers: int
    save: Callable[[], None]
    save_every: float
    log: Path
    board: Path | None = None

    def run(self, stage: Stage, progress: Progress) -> None:
        """Take the stage's remaining steps (or as many as the budget allows), saving now and then.

        Raises:
            EmotionError: the loss is not finite.
        """
        for module in stage.modules:
            module.train()
        if not self.world.first:
            self._take_steps(stage, progress, None)
            return
        with self.log.open("a", encoding="utf-8") as log:
            self._take_steps(stage, progress, log)
        self.save()

    def _take_steps(self, stage: Stage, progress: Progress, log: IO[str] | None) -> None:
        saved = time.monotonic()
        batches = self._batches(stage, progress.step)
        board = _Board(self.board, stage.name, progress.step) if log and self.board else None
        with tqdm(
            total=stage.steps,
            initial=progress.step,
            desc=stage.name,
            unit="step",
            dynamic_ncols=True,
            disable=log is None,
        ) as bar:
            while progress.step < stage.steps and not progress.spent():
                started = time.monotonic()
                batch = next(batches)
                if isinstance(batch, _Failed):
                    raise EmotionError(batch.message)
                waited = time.monotonic() - started
                figures = self._step(stage, batch, progress.step)
                seconds = time.monotonic() - started
                rows = stage.rows(batch) * self.world.size
                figures |= {"rows_per_s": rows / seconds, "waited": waited / seconds}
                if stage.evaluated(progress.step):
                    figures |= self._evaluate(stage)
                if log:
                    log.write(json.dumps({"stage": stage.name, "step": progress.step, **figures}) + "\n")
                if board:
                    board.write(figures, progress.step)
                progress.took_step()
                bar.set_postfix({k: f"{v:.3g}" for k, v in figures.items()}, refresh=False)
                bar.update()
                if log and time.monotonic() - saved >= self.save_every:
                    log.flush()
                    self.save()
                    saved = time.monotonic()
        if board:
            board.close()

    def _evaluate(self, stage: Stage) -> dict[str, float]:
        """Figures of the first process; the others wait for it at the next step's exchange."""
        figures = stage.evaluate() if self.world.first else {}
        for module in stage.modules:
            module.train()
        return figures

    def _batches(self, stage: Stage, start: int) -> Iterator[Any]:
        loader: DataLoader[Any] = DataLoader(
            _InWords(stage.batches),
            batch_size=None,
            sampler=_Own(start, stage.steps, self.world),
            num_workers=self.workers,
            # A forked worker would inherit the locks of OpenCV's and TensorBoard's threads, and wait for them
            # forever.
            multiprocessing_context="forkserver" if self.workers else None,
            prefetch_factor=4 if self.workers else None,
            worker_init_fn=_one_thread,
            pin_memory=self.world.device.type == "cuda",
        )
        return iter(loader)

    def _step(self, stage: Stage, batch: Any, step: int) -> dict[str, float]:
        for group in stage.optimizer.param_groups:
            group["lr"] = stage.schedule.rate(step, group["peak_lr"])
        stage.optimizer.zero_grad(set_to_none=True)
        # What is random in a step depends on the step alone, so a resumed run repeats it.
        loss, figures = stage.objective(batch, self.precision, self.seed * 1_000_003 + step)
        mend = "lower lr, or train in fp32, and resume from the last checkpoint"
        if not math.isfinite(loss):
            raise EmotionError(f"{stage.name}: the loss is {loss} at step {step}; {mend}")
        try:
            norm = self.precision.step(stage.optimizer, stage.clip_norm)
        except EmotionError as error:
            raise EmotionError(f"{stage.name}: at step {step} {error}; {mend}") from error
        stage.after_step()
        taken = {"grad_norm": norm} if math.isfinite(norm) else {}  # not of a step that fp16 left out
        return {"loss": loss, **figures, **taken, "lr": stage.optimizer.param_groups[0]["lr"]}


class _Board:
    """Scalars for TensorBoard; a resumed stage takes back what a killed one wrote after its checkpoint."""

    def __init__(self, folder: Path, stage: str, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (slow to import)

        self._writer = SummaryWriter(str(folder / stage), purge_step=step)

    def write(self, figures: dict[str, float], step: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


@dataclass(frozen=True, slots=True)
class _Failed:
    """In place of a batch that a user has to mend."""

    message: str


class _InWords(Dataset[Any]):
    """A worker's errors come back in their one line; an exception would bring its traceback along."""

    def __init__(self, batches: Dataset[Any]) -> None:
        self.batches = batches

    def __getitem__(self, index: int) -> Any:
        try:
            return self.batches[index]
        except EmotionError as error:
            return _Failed(str(error))


class _Own(Sampler[int]):
    """The batches of one process for the steps start .. stop - 1, in order."""

    def __init__(self, start: int, stop: int, world: World) -> None:
        self._range = range(start * world.size + world.rank, stop * world.size, world.size)

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
