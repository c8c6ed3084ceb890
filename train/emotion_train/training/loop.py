"""The training loop that all stages of a run share: steps, progress, log, checkpoints."""

import json
import math
import multiprocessing
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
from emotion_runtime.files import write_atomically
from emotion_train.training.optim import Schedule
from emotion_train.training.parallel import World
from emotion_train.training.precision import Precision


class Objective(Protocol):
    """Computes the loss of a batch and adds its gradients to the parameters."""

    def __call__(self, batch: Any, precision: Precision, seed: int) -> tuple[float, dict[str, float]]:
        """Return the loss and metrics for the log.

        Args:
            batch: As the stage's loader gives it.
            precision: Number format of the step.
            seed: Of the step, for dropout and everything else that is random.
        """
        ...


@dataclass(frozen=True, slots=True)
class SimpleObjective:
    """The objective for a loss that is a mean over rows.

    Attributes:
        loss: Computes the loss of a batch, and metrics for the log.
    """

    loss: Callable[[Any], tuple[Tensor, dict[str, float]]]

    def __call__(self, batch: Any, precision: Precision, seed: int) -> tuple[float, dict[str, float]]:
        """As in `Objective`."""
        torch.manual_seed(seed)
        with precision.autocast():
            loss, metrics = self.loss(batch)
        precision.scaled(loss).backward()  # type: ignore[no-untyped-call]
        return loss.item(), metrics


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a run: what is trained, on which data, and how.

    Attributes:
        name: Name of the stage in the log.
        batches: Item i is the batch of step i. With n processes, it is that of step i // n in process i % n.
        objective: Computes loss and gradients.
        optimizer: Takes the steps.
        modules: Modules to put in training mode.
        schedule: Learning rates and number of steps.
        clip_norm: Largest norm of the gradient.
        after_step: Called after each step.
        evaluate: Returns metrics for the log, every `evaluate_every` steps and after the last.
        evaluate_every: 0 means never.
        rows: Returns the number of rows of a batch, for the speed in the log.
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
        """Number of steps."""
        return self.schedule.steps

    def evaluated(self, step: int) -> bool:
        """Return whether the model is evaluated after this step."""
        return bool(self.evaluate_every) and ((step + 1) % self.evaluate_every == 0 or step + 1 == self.steps)


@dataclass(slots=True)
class Progress:
    """How far a run is: the stage, and its next step.

    Attributes:
        budget: Steps that `--max-steps` leaves; None means no limit.
    """

    stage: str
    step: int = 0
    budget: int | None = None

    def spent(self) -> bool:
        """Return whether the budget is used up."""
        return self.budget is not None and self.budget <= 0

    def took_step(self) -> None:
        """Count a step."""
        self.step += 1
        if self.budget is not None:
            self.budget -= 1


@dataclass(frozen=True, slots=True)
class Runner:
    """Takes the steps of a stage.

    Attributes:
        seed: Of the run.
        precision: Number format of the steps.
        world: The processes that train together.
        workers: Processes that load batches; 0 loads them in this one.
        save: Writes a checkpoint.
        save_every: Seconds between two checkpoints.
        log: JSONL file with one line per step.
        board: Folder for TensorBoard; None means without.
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
        """Take the remaining steps of a stage, or as many as the budget allows.

        Raises:
            EmotionError: The loss or a gradient is not finite, or a batch cannot be read.
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
                if isinstance(batch, _FailedBatch):
                    raise EmotionError(batch.message)
                waited = time.monotonic() - started
                metrics = self._step(stage, batch, progress.step)
                seconds = time.monotonic() - started
                rows = stage.rows(batch) * self.world.size
                metrics |= {"rows_per_s": rows / seconds, "waited": waited / seconds}
                if stage.evaluated(progress.step):
                    metrics |= self._evaluate(stage)
                if log:
                    log.write(json.dumps({"stage": stage.name, "step": progress.step, **metrics}) + "\n")
                if board:
                    board.write(metrics, progress.step)
                progress.took_step()
                bar.set_postfix({k: f"{v:.3g}" for k, v in metrics.items()}, refresh=False)
                bar.update()
                if log and time.monotonic() - saved >= self.save_every:
                    log.flush()
                    self.save()
                    saved = time.monotonic()
        if board:
            board.close()

    def _evaluate(self, stage: Stage) -> dict[str, float]:
        """Evaluate in the first process; the others wait for it at the exchange of the next step."""
        with self.precision.evaluating():
            metrics = stage.evaluate() if self.world.first else {}
        for module in stage.modules:
            module.train()
        return metrics

    def _batches(self, stage: Stage, start: int) -> Iterator[Any]:
        # Otherwise each worker imports torch by itself, one after the other: minutes with many of them.
        multiprocessing.set_forkserver_preload([type(stage.batches).__module__])
        loader: DataLoader[Any] = DataLoader(
            _ErrorsAsBatches(stage.batches),
            batch_size=None,
            sampler=_ProcessBatches(start, stage.steps, self.world),
            num_workers=self.workers,
            # A forked worker would inherit locks of OpenCV's and TensorBoard's threads, and wait forever.
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
        # Everything random in a step depends only on its index, so a resumed run repeats it.
        loss, metrics = stage.objective(batch, self.precision, self.seed * 1_000_003 + step)
        fix = "lower lr, or train in fp32, and resume from the last checkpoint"
        if not math.isfinite(loss):
            raise EmotionError(f"{stage.name}: the loss is {loss} at step {step}; {fix}")
        try:
            norm = self.precision.step(stage.optimizer, stage.clip_norm)
        except EmotionError as error:
            raise EmotionError(f"{stage.name}: at step {step} {error}; {fix}") from error
        stage.after_step()
        taken = (
            {"grad_norm": norm} if math.isfinite(norm) else {}
        )  # fp16 skips steps whose gradients overflow
        return {"loss": loss, **metrics, **taken, "lr": stage.optimizer.param_groups[0]["lr"]}


class _Board:
    """Scalars for TensorBoard. A resumed stage discards what a killed one wrote after its checkpoint."""

    def __init__(self, folder: Path, stage: str, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (slow to import)

        self._writer = SummaryWriter(str(folder / stage), purge_step=step)

    def write(self, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


@dataclass(frozen=True, slots=True)
class _FailedBatch:
    """Takes the place of a batch that could not be read, because of an error that the user can fix."""

    message: str


class _ErrorsAsBatches(Dataset[Any]):
    """Returns a worker's errors as batches: raised there, they would come with the worker's traceback."""

    def __init__(self, batches: Dataset[Any]) -> None:
        self.batches = batches

    def __getitem__(self, index: int) -> Any:
        try:
            return self.batches[index]
        except EmotionError as error:
            return _FailedBatch(str(error))


class _ProcessBatches(Sampler[int]):
    """Yields the batch indices of one process for the steps start .. stop - 1, in order."""

    def __init__(self, start: int, stop: int, world: World) -> None:
        self._range = range(start * world.size + world.rank, stop * world.size, world.size)

    def __iter__(self) -> Iterator[int]:
        return iter(self._range)

    def __len__(self) -> int:
        return len(self._range)


def _one_thread(worker: int) -> None:
    """Give a worker one core: it runs beside the threads that train."""
    import cv2  # noqa: PLC0415

    del worker
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def cut_log(log: Path, stage: str, step: int, stages: tuple[str, ...]) -> None:
    """Drop the lines of steps that a resumed run will take again.

    Args:
        log: JSONL file of the run.
        stage: The stage that is resumed.
        step: Its next step.
        stages: Names of the configured stages, in order. Other stages in the log came before them.
    """
    if not log.is_file():
        return
    order = {name: i for i, name in enumerate(stages)}
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break  # the process was killed while writing; steps after the last checkpoint are repeated anyway
        if (order.get(entry["stage"], -1), entry["step"]) < (order[stage], step):
            kept.append(line + "\n")
    write_atomically(log, "".join(kept))
