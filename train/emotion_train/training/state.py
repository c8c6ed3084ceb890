"""What changes while a run trains: saved in its checkpoint, and restored from it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import save_checkpoint
from emotion_train.language.labels import EKMAN
from emotion_train.model import EmotionCLIP, ModelConfig
from emotion_train.training.config import PretrainConfig
from emotion_train.training.config_files import changed_settings
from emotion_train.training.loop import Progress
from emotion_train.training.precision import Precision
from emotion_train.training.run_data import RunData
from emotion_train.training.supervision import Supervision


class TrainingHeads(nn.Module):
    """Classifiers that only training uses; they stay in the checkpoint until the run is done.

    Attributes:
        text: Emotions from text features, for the warm-up of the text tower.
        stem: Emotions from pooled stem features, for the warm-up of the stem.
        scenes: The supervised term of scenes; None without that term.
    """

    def __init__(self, sizes: ModelConfig) -> None:
        super().__init__()
        self.text = nn.Linear(sizes.embed_dim, len(EKMAN))
        self.stem = nn.Linear(sizes.vision_width, len(EKMAN))
        self.scenes: Supervision | None = None

    def add_supervision(self, faces: int) -> None:
        """Add the supervised term of scenes, which has a target for each of `faces` training faces."""
        self.scenes = Supervision(self.text.in_features, faces)


@dataclass(slots=True)
class RunState:
    """Everything that a checkpoint holds.

    Attributes:
        config: Of the run, to tell another run's checkpoint.
        data: What it learns from, for the same reason.
        processes: Number of processes that train together.
        optimizer: Of the stage that is being trained; None before the first.
        resumed_optimizer: State for the first stage after a restore.
    """

    config: PretrainConfig
    data: RunData
    processes: int
    model: EmotionCLIP
    heads: TrainingHeads
    precision: Precision
    progress: Progress
    optimizer: torch.optim.Optimizer | None = None
    resumed_optimizer: dict[str, Any] | None = None

    def save(self, path: Path) -> None:
        """Write everything that a resumed run, a probe and the export need."""
        save_checkpoint(
            path,
            config=self.model.config,
            state={
                "model": self.model.state_dict(),
                "heads": self.heads.state_dict(),
                "optimizer": self.optimizer.state_dict() if self.optimizer else {},
                "precision": self.precision.state(),
                "stage": self.progress.stage,
                "step": self.progress.step,
                "fingerprint": self.data.fingerprint,
                "processes": self.processes,
                "settings": msgspec.to_builtins(self.config),
            },
        )

    def restore(self, stored: Mapping[str, Any]) -> None:
        """Go on from the content of a checkpoint that `difference` has accepted."""
        self.model.load_state_dict(stored["model"])
        self.heads.load_state_dict(stored["heads"])
        self.precision.load_state(stored.get("precision", {}))
        self.progress.stage, self.progress.step = stored["stage"], stored["step"]
        self.resumed_optimizer = stored["optimizer"]

    def use_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Train with a stage's optimizer, whose moments are restored if the stage was resumed half-way."""
        if self.resumed_optimizer is not None and self.progress.step > 0:
            # The learning rates of the configuration win: it may have been edited since the checkpoint.
            rates = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
            _check_groups(optimizer, self.resumed_optimizer)
            optimizer.load_state_dict(self.resumed_optimizer)
            for group, configured in zip(optimizer.param_groups, rates, strict=True):
                group.update(configured)
        self.resumed_optimizer = None
        self.optimizer = optimizer

    def difference(self, stored: Mapping[str, Any], stages: Sequence[str]) -> str | None:
        """Return how a checkpoint differs from this run, as the end of "the checkpoint is ..."; or None.

        Args:
            stored: Content of the checkpoint.
            stages: Names of the configured stages.
        """
        ours, theirs = asdict(self.model.config), asdict(stored["config"])
        sizes = [key for key in ours if ours[key] != theirs[key]]
        settings = changed_settings(stored.get("settings", {}), msgspec.to_builtins(self.config))
        processes = stored.get("processes", 1)
        if self._same_joined_batch(stored):
            settings, processes = [name for name in settings if name != "clips.batch"], self.processes
        other_data = stored.get("fingerprint") not in (
            None,
            "",
            self.data.fingerprint,
        )  # older ones have none
        problems = (
            (sizes, f"of another model than preset {self.config.preset!r} (other {', '.join(sizes)})"),
            (
                stored.get("stage") not in stages,
                f"in stage {stored.get('stage')!r}, which is not in the config ({', '.join(stages)})",
            ),
            (other_data, f"of a run on other data than {self.data.name} holds"),
            (
                processes != self.processes,
                f"of a run of {processes} processes, and this has {self.processes}"
                + self._batch_that_fits(stored),
            ),
            (settings, f"of a run with other settings ({', '.join(settings)})"),
            (
                stored.get("heads", {}).keys() != self.heads.state_dict().keys(),
                "of a run with another supervised term",
            ),
        )
        return next((problem for applies, problem in problems if applies), None)

    def _same_joined_batch(self, stored: Mapping[str, Any]) -> bool:
        """Return whether the steps of a checkpoint's run have the same clips, shared by other processes."""
        clips = self.config.clips
        return clips is not None and _clips_per_step(stored) == clips.batch * self.processes

    def _batch_that_fits(self, stored: Mapping[str, Any]) -> str:
        joined = _clips_per_step(stored)
        if self.config.clips is None or joined is None or joined % self.processes:
            return ""
        return f" (set clips.batch to {joined // self.processes}, so that a step has the same clips)"


def _check_groups(optimizer: torch.optim.Optimizer, stored: Mapping[str, Any]) -> None:
    """Refuse the state of an optimizer with other parameter groups, as of an earlier version.

    Raises:
        EmotionError: The groups differ.
    """
    ours, theirs = (
        [len(group["params"]) for group in groups]
        for groups in (optimizer.param_groups, stored.get("param_groups", []))
    )
    if ours != theirs:
        raise EmotionError(
            f"the checkpoint's optimizer has parameter groups of {theirs} tensors, expected {ours}: it is of "
            "another version, whose learning rates differ; start a new run from it, with [start] checkpoint"
        )


def _clips_per_step(stored: Mapping[str, Any]) -> int | None:
    """Return the clips of a step of all processes of a checkpoint's run; None for other stages."""
    clips = stored.get("settings", {}).get("clips")
    return int(clips["batch"]) * int(stored.get("processes", 1)) if clips else None


def check_resumable(path: Path, difference: str | None) -> None:
    """Refuse a checkpoint of another run.

    Raises:
        EmotionError: There is a difference.
    """
    if difference:
        raise EmotionError(
            f"{path} is {difference}: resume with the config it was made with, or choose another --out"
        )
