"""The training loop that all stages of a run share: steps, progress, log, checkpoints."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from emotion_runtime.errors import EmotionError
from emotion_train.batch import SkippedClip
from emotion_train.training.loading import load_batches
from emotion_train.training.optim import Schedule
from emotion_train.training.outputs import Outputs, StageOutputs
from emotion_train.training.parallel import World, in_any_process
from emotion_train.training.precision import Precision
from emotion_train.training.stalls import EnterPhase, watching


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
        epoch: Steps of an epoch; 0 means that the stage has none.
        skipped: Returns the clips that were skipped when a batch was read.
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
    epoch: int = 0
    skipped: Callable[[Any], Sequence[SkippedClip]] = lambda _batch: ()

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
        stopped_by: Name of the signal that ended the run before its last step; None if none did.
    """

    stage: str
    step: int = 0
    budget: int | None = None
    stopped_by: str | None = None

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
        outputs: What the first process writes.
        preempted: Returns the name of the signal that asks the run to end; None without one.
        skip: Records clips that were skipped.
        stall_limit: Seconds without progress after which a process that others wait for ends the run.
    """

    seed: int
    precision: Precision
    world: World
    workers: int
    outputs: Outputs
    preempted: Callable[[], str | None] = lambda: None
    skip: Callable[[Sequence[SkippedClip]], None] = lambda _skipped: None
    stall_limit: float = 600.0

    def run(self, stage: Stage, progress: Progress) -> None:
        """Take the remaining steps of a stage, or as many as the budget and signals allow.

        Raises:
            EmotionError: The loss or a gradient is not finite, a batch cannot be read, or too many clips.
        """
        for module in stage.modules:
            module.train()
        if not self.world.first:
            self._take_steps(stage, progress, None)
            return
        with self.outputs.of_stage(stage.name, stage.epoch, progress.step) as outputs:
            self._take_steps(stage, progress, outputs)

    def _take_steps(self, stage: Stage, progress: Progress, outputs: StageOutputs | None) -> None:
        batches = load_batches(stage.batches, progress.step, stage.steps, self.world, self.workers)
        with (
            watching(self.world, stage.name, self.stall_limit) as enter,
            tqdm(
                total=stage.steps,
                initial=progress.step,
                desc=stage.name,
                unit="step",
                dynamic_ncols=True,
                disable=outputs is None,
            ) as bar,
        ):
            while progress.step < stage.steps and not progress.spent() and not self._ends(progress):
                metrics = self._next_step(stage, progress.step, batches, enter)
                if outputs:
                    outputs.took_step(progress.step, metrics)
                progress.took_step()
                bar.set_postfix({k: f"{v:.3g}" for k, v in metrics.items()}, refresh=False)
                bar.update()
                if outputs:
                    outputs.keep(progress.step, metrics)
                enter(f"step {progress.step}, before the next")

    def _next_step(
        self, stage: Stage, step: int, batches: Iterator[Any], enter: EnterPhase
    ) -> dict[str, float]:
        """Take a step on the next batch, and return its metrics."""
        enter(f"step {step}, reading its batch")
        started = time.monotonic()
        batch = next(batches)
        waited = time.monotonic() - started
        enter(f"step {step}, training")
        skipped = stage.skipped(batch)
        self.skip(skipped)
        metrics = self._step(stage, batch, step)
        seconds = time.monotonic() - started
        rows = stage.rows(batch) * self.world.size
        metrics |= {"rows_per_s": rows / seconds, "waited": waited / seconds}
        if skipped:
            metrics["skipped"] = len(skipped)
        if stage.evaluated(step):
            enter(f"step {step}, evaluating", evaluating=True)
            metrics |= self._evaluate(stage)
        return metrics

    def _ends(self, progress: Progress) -> bool:
        """Return whether a signal asks the run to end. All processes end before the same step."""
        name = self.preempted()
        if not in_any_process(name is not None, self.world):
            return False
        progress.stopped_by = name or "a signal to another process"
        return True

    def _evaluate(self, stage: Stage) -> dict[str, float]:
        """Evaluate in the first process; the others wait for it at the exchange of the next step."""
        with self.precision.evaluating():
            metrics = stage.evaluate() if self.world.first else {}
        for module in stage.modules:
            module.train()
        return metrics

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
