"""The checkpoints of a run: the latest, those of the last epochs, and the best by a probe."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import load_checkpoint
from emotion_train.training.report import VALIDATION

LATEST = "checkpoint.pt"
BEST = "best.pt"
EPOCHS = "epoch-*.pt"

_log = logging.getLogger(__name__)


class Checkpoints:
    """Writes the checkpoints of a run into its folder.

    The checkpoint of an epoch is the latest one under a second name, so it costs no time, and disk space only
    once the next one is written.

    Args:
        folder: Of the run.
        write: Writes the state of the run to a file.
        keep_last: Number of epochs whose checkpoints are kept.
        metric: Name of the metric in the log by which the best checkpoint is chosen; None means the first
            that a validation gives.
    """

    def __init__(
        self, folder: Path, write: Callable[[Path], None], *, keep_last: int, metric: str | None = None
    ) -> None:
        self.folder, self.keep_last, self.metric = folder, keep_last, metric
        self._write = write

    def save(self) -> None:
        """Write the latest checkpoint."""
        self._write(self.folder / LATEST)

    def end_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Keep the latest checkpoint as that of an epoch, and as the best if it is.

        Args:
            epoch: Number of the epoch, from 1.
            metrics: What the log has of its last step. A metric that is not defined, such as a correlation
                with predictions that are all equal, is not in it.
        """
        if self.keep_last:
            _link(self.folder / LATEST, self.folder / EPOCHS.replace("*", f"{epoch:04d}"))
            for old in sorted(self.folder.glob(EPOCHS))[: -self.keep_last]:
                old.unlink()
        measured = [name for name in metrics if name.startswith(VALIDATION)]
        if not measured:
            return
        name = self.metric or measured[0]
        if name not in metrics:  # its name was checked before the first step
            _log.warning(
                "[probe] metric %s is undefined after epoch %d, so %s stays as it is", name, epoch, BEST
            )
            return
        if metrics[name] == _best(self.folder / "log.jsonl", name):
            _link(self.folder / LATEST, self.folder / BEST)


def latest_readable(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the latest checkpoint of a run that can be read, and its content; None if there is none at all.

    Raises:
        EmotionError: There are checkpoints, but none can be read.
    """
    failed = None
    for path in (folder / LATEST, *sorted(folder.glob(EPOCHS), reverse=True)):
        if not path.exists():
            continue
        try:
            return path, load_checkpoint(path)
        except EmotionError as error:
            _log.warning("%s", error)
            failed = error
    if failed is not None:
        raise EmotionError(f"no checkpoint in {folder} can be read; the last: {failed}")
    return None


def kept_checkpoints(folder: Path) -> list[str]:
    """Return the names of the checkpoints of epochs, and of the best one, in a folder."""
    return sorted(path.name for pattern in (EPOCHS, BEST) for path in folder.glob(pattern))


def _best(log: Path, name: str) -> float:
    """Return the best value of a metric in the log: the largest, or the smallest of an error."""
    entries = (json.loads(line) for line in log.read_text(encoding="utf-8").splitlines())
    values = [entry[name] for entry in entries if name in entry]
    return float(min(values) if name.endswith(("_mse", "_ece", "_ece_unscaled", "loss")) else max(values))


def _link(path: Path, name: Path) -> None:
    """Give a file a second name, or copy it where the file system has no hard links."""
    temporary = name.with_name(f".{name.name}.link.tmp")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)
        temporary.replace(name)
    except OSError as error:
        raise EmotionError(f"{name} cannot be written ({error.strerror}): free disk space") from error
    finally:
        with suppress(OSError):  # renaming one of two names of a file to the other does nothing
            temporary.unlink()
