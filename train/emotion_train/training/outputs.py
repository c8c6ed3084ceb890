"""What the first process writes while a stage trains: log, trackers, checkpoints and the report."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from emotion_runtime.files import write_atomically
from emotion_train.training.trackers import OpenTracker, Tracker

FIRST_REPORT = 2.0  # seconds after the start, so that a short run has one, too
REPORT_EVERY = 30.0  # seconds; drawing takes about one


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the outputs of a run go.

    Attributes:
        log: JSONL file with one line per step.
        save: Writes a checkpoint.
        save_every: Seconds between two checkpoints.
        trackers: Open the trackers of a stage.
        end_epoch: Called after the checkpoint at the end of an epoch, with its number from 1 and the metrics
            of its last step.
        report: Writes the report.
    """

    log: Path
    save: Callable[[], None]
    save_every: float
    trackers: Sequence[OpenTracker] = ()
    end_epoch: Callable[[int, dict[str, float]], None] = lambda _epoch, _metrics: None
    report: Callable[[], None] = lambda: None

    @contextmanager
    def of_stage(self, name: str, epoch: int, step: int) -> Iterator["StageOutputs"]:
        """Open the log for a stage; after a block without an error, write a last checkpoint and the report.

        Args:
            name: Name of the stage.
            epoch: Steps of an epoch; 0 means that the stage has none.
            step: Its next step.
        """
        trackers = [open_tracker(name, step) for open_tracker in self.trackers]
        # Line by line: whoever follows the log sees every step at once.
        with self.log.open("a", encoding="utf-8", buffering=1) as log:
            outputs = StageOutputs(self, name, epoch, log, trackers)
            if epoch and step and step % epoch == 0:
                outputs.end_epoch_again(step)
            yield outputs
        for tracker in trackers:
            tracker.close()
        outputs.finish()


class StageOutputs:
    """Writes the outputs of one stage, step by step.

    Args:
        outputs: Where they go.
        name: Name of the stage.
        epoch: Steps of an epoch; 0 means that the stage has none.
        log: The open log.
        trackers: Receive the metrics, too.
    """

    def __init__(
        self, outputs: Outputs, name: str, epoch: int, log: IO[str], trackers: Sequence[Tracker]
    ) -> None:
        self._outputs, self._name, self._epoch = outputs, name, epoch
        self._log, self._trackers = log, trackers
        self._saved = time.monotonic()
        self._report_due = self._saved + FIRST_REPORT
        self._unsaved = True  # a stage without any step left saves, too

    def took_step(self, step: int, metrics: dict[str, float]) -> None:
        """Log a step, before it counts as taken."""
        self._log.write(json.dumps({"stage": self._name, "step": step, **metrics}) + "\n")
        for tracker in self._trackers:
            tracker.write(metrics, step)
        self._unsaved = True

    def keep(self, steps: int, metrics: dict[str, float]) -> None:
        """Write the checkpoints and the report that are due.

        Args:
            steps: Number of steps taken.
            metrics: Of the last one.
        """
        ends_epoch = bool(self._epoch) and steps % self._epoch == 0
        if ends_epoch or time.monotonic() - self._saved >= self._outputs.save_every:
            self._outputs.save()
            self._saved, self._unsaved = time.monotonic(), False
        if ends_epoch:
            self._outputs.end_epoch(steps // self._epoch, metrics)
        if time.monotonic() >= self._report_due:
            self._outputs.report()
            self._report_due = time.monotonic() + REPORT_EVERY

    def end_epoch_again(self, steps: int) -> None:
        """Write the checkpoints at the end of an epoch, of which the run may have been killed before it did.

        Args:
            steps: Number of steps taken, those of whole epochs.
        """
        lines = self._outputs.log.read_text(encoding="utf-8").splitlines()
        last = json.loads(lines[-1]) if lines else {}
        metrics = last if (last.get("stage"), last.get("step")) == (self._name, steps - 1) else {}
        self._outputs.save()  # the latest may be the one that cannot be read
        self._outputs.end_epoch(steps // self._epoch, metrics)

    def finish(self) -> None:
        """Write the last checkpoint of the stage, unless it exists, and the report."""
        if self._unsaved:
            self._outputs.save()
        self._outputs.report()


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
