"""Trackers of experiments: where the metrics of a run go besides its own log and report."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from emotion_runtime.errors import EmotionError

TrackerName = Literal["tensorboard", "wandb"]


class Tracker(Protocol):
    """Receives the metrics of one stage of a run."""

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        """Record the metrics of a step."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


OpenTracker = Callable[[str, int], Tracker]  # with the name of a stage, and its next step


def tracker(name: TrackerName, run: Path, settings: Mapping[str, Any]) -> OpenTracker:
    """Return what opens a tracker for a stage.

    Args:
        name: Of the tracker.
        run: Folder of the run.
        settings: Configuration of the run.

    Raises:
        EmotionError: The tracker is not installed.
    """
    if name == "tensorboard":
        return lambda stage, step: _TensorBoard(run / "tensorboard" / stage, step)
    try:
        import wandb  # noqa: PLC0415 (optional)
    except ModuleNotFoundError as error:
        raise EmotionError(
            'trackers = ["wandb"]: the package is not installed; run pip install wandb, or remove it from '
            "the configuration"
        ) from error
    return lambda stage, _step: _WeightsAndBiases(wandb, run, stage, settings)


class _TensorBoard:
    """A resumed stage discards what a killed one wrote after its checkpoint."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (slow to import)

        self._writer = SummaryWriter(str(folder), purge_step=step)

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    """Weights & Biases. Nothing leaves the machine unless the variable WANDB_MODE is "online".

    Every start of a stage is a run of its own, in a group with the name of the folder.
    """

    def __init__(self, wandb: Any, run: Path, stage: str, settings: Mapping[str, Any]) -> None:
        name = run.resolve().name
        self._run = wandb.init(
            project="emotionclip",
            group=name,
            name=f"{name} {stage}",
            dir=str(run),
            config=dict(settings),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )

    def write(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()
