"""A pre-training run: its stages one after the other, with a checkpoint and a report."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import load_checkpoint
from emotion_train.clips.batches import steps_per_epoch
from emotion_train.folder_lock import locked
from emotion_train.model import EmotionCLIP, ModelConfig
from emotion_train.scenes.training_data import SceneData
from emotion_train.training.checkpoints import LATEST, Checkpoints, kept_checkpoints, latest_readable
from emotion_train.training.config import PretrainConfig
from emotion_train.training.evaluation import Evaluation, dataset_evaluation, scene_evaluation
from emotion_train.training.loop import Progress, Runner, Stage
from emotion_train.training.objective import Execution
from emotion_train.training.outputs import Outputs, cut_log
from emotion_train.training.parallel import World
from emotion_train.training.precision import Precision
from emotion_train.training.report import run_facts, write_report
from emotion_train.training.run_data import open_data
from emotion_train.training.skipped import SKIPPED, SkippedClips, skipped_keys
from emotion_train.training.stages import check_schedule, clip_stage, scene_stage
from emotion_train.training.start import freeze, set_recompute, start_model
from emotion_train.training.state import RunState, TrainingHeads, check_resumable
from emotion_train.training.supervision import stem_predictions
from emotion_train.training.trackers import tracker
from emotion_train.training.warmup_stages import checked_stem, stem_stage, text_stage

CHECKPOINT = LATEST


class Run:
    """A run that is ready to take its next step. It holds the lock of its folder until `train` is over.

    Args:
        config: The configuration.
        sizes: The model to train.
        data: Folder or URL, as `emotion-train pretrain --data` takes it; or data for scenes in memory.
        out: Folder of the run.
        world: The processes that train together.
        resume: Go on from the checkpoint in the folder. "auto": if there is one, and from an earlier one if
            the latest cannot be read; otherwise begin.

    Attributes:
        model: The model, on the device of this process.
        progress: The stage and the next step.
        started_from: Where the weights come from, in a few words.

    Raises:
        EmotionError: The data, the first weights, the checkpoint or the folder cannot be used, or another run
            is using the folder.
    """

    def __init__(
        self,
        config: PretrainConfig,
        sizes: ModelConfig,
        *,
        data: str | SceneData,
        out: Path,
        world: World,
        resume: bool | Literal["auto"],
    ) -> None:
        self.config, self.out, self.world = config, out, world
        self.stages = configured_stages(config)
        self.progress = Progress(self.stages[0])
        self.model = EmotionCLIP(sizes)
        self.heads = TrainingHeads(sizes)
        precision = Precision(config.precision, world.device, tf32=config.tf32)
        path, stored = _stored(out, resume=resume)
        self.data = open_data(data, config)
        if config.scenes and config.scenes.supervised and self.data.scenes:
            self.heads.add_supervision(len(self.data.scenes.faces.labels))
        self.state = RunState(config, self.data, world.size, self.model, self.heads, precision, self.progress)
        if config.clips and self.data.shards:  # before the first weights are read, which takes a while
            check_schedule(config.clips, steps_per_epoch(self.data.shards, config.clips.batch, world.size))
        if stored is None:
            self.started_from = start_model(self.model, config.start)
        else:
            check_resumable(path, self.state.difference(stored, self.stages))
            self.state.restore(stored)
            earlier = "" if path.name == CHECKPOINT else f" of {path.name}"
            self.started_from = f"resumed at {self.progress.stage} step {self.progress.step}{earlier}"
        precision.prepare(self.model)
        self.heads.to(world.device)
        freeze(self.model, config.start)
        self._check_stages()
        if config.recompute:
            set_recompute(self.model)
        self._lock = locked(out) if world.first else None
        if world.first:
            _prepare_folder(out, None if stored is None else self.progress, self.stages)
        self.runner = Runner(
            seed=config.seed,
            precision=precision,
            world=world,
            workers=config.workers,
            outputs=self._outputs(),
            skip=SkippedClips(out / SKIPPED, config.clips.skip_limit if config.clips else 0).add,
            stall_limit=config.stall_limit,
        )

    @property
    def _execution(self) -> Execution:
        config = self.config
        return Execution(self.world, config.accumulate, config.compile, config.freeze_batchnorm)

    def _check_stages(self) -> None:
        """Refuse what a later stage would refuse, before the first one is trained."""
        left = self.stages[self.stages.index(self.progress.stage) :]
        if "stem" in left:
            checked_stem(self.model, self.world)
        if {"scenes", "clips"} & set(left):
            self._execution.check(self.model)

    def _outputs(self) -> Outputs:
        checkpoints = Checkpoints(
            self.out,
            self.state.save,
            keep_last=self.config.keep_last,
            metric=self.config.probe.metric if self.config.probe else None,
        )
        return Outputs(
            log=self.out / "log.jsonl",
            save=checkpoints.save,
            save_every=self.config.save_every,
            trackers=[
                tracker(name, self.out, msgspec.to_builtins(self.config)) for name in self.config.trackers
            ],
            end_epoch=checkpoints.end_epoch,
            report=self._report,
        )

    def _report(self) -> None:
        facts = run_facts(self.config, self.model, self.data, self.world, self.started_from)
        skipped = skipped_keys(self.out / SKIPPED)
        if skipped:
            facts["skipped clips"] = f"{len(skipped)}, listed in {SKIPPED}: {', '.join(skipped[:5])}" + (
                " ..." if len(skipped) > 5 else ""
            )
        write_report(self.out, facts=facts, config=self.config)

    def train(
        self, *, max_steps: int | None = None, preempted: Callable[[], str | None] = lambda: None
    ) -> str | None:
        """Take all steps that are left, or `max_steps` of them, and write the report.

        Args:
            max_steps: Most steps to take; None means no limit.
            preempted: Returns the name of the signal that asks the run to end; None without one.

        Returns:
            The stage in which `max_steps` or a signal stopped the run; None if the run is done.
        """
        try:
            return self._train(max_steps, preempted)
        finally:
            if self._lock is not None:
                self._lock.release()

    def _train(self, max_steps: int | None, preempted: Callable[[], str | None]) -> str | None:
        self.progress.budget = max_steps
        runner = replace(self.runner, preempted=preempted)
        for name in self.stages[self.stages.index(self.progress.stage) :]:
            if self.progress.stage != name:
                self.progress.stage, self.progress.step = name, 0
            stage = replace(self._build_stage(name), evaluate=self._evaluation(name))
            self.state.use_optimizer(stage.optimizer)
            runner.run(stage, self.progress)
            if self.progress.stopped_by:
                return name
            if self.progress.spent() and (self.progress.step < stage.steps or name != self.stages[-1]):
                return name
        return None

    def _build_stage(self, name: str) -> Stage:
        config, scenes, world, execution = self.config, self.data.scenes, self.world, self._execution
        if name == "text" and config.text_warmup and scenes:
            head, bank = self.heads.text, scenes.bank
            return text_stage(self.model, head, bank, config.text_warmup, seed=config.seed, world=world)
        if name == "stem" and config.stem_warmup and scenes:
            head, faces = self.heads.stem, scenes.faces
            return stem_stage(self.model, head, faces, config.stem_warmup, seed=config.seed + 1, world=world)
        if name == "scenes" and config.scenes and scenes:
            if self.progress.step == 0:  # later the targets come from the checkpoint
                self._set_targets(scenes, config.scenes.stem_answers)
            return scene_stage(
                self.model,
                scenes,
                config.scenes,
                seed=config.seed + 2,
                execution=execution,
                supervision=self.heads.scenes,
            )
        if name == "clips" and config.clips and self.data.shards:
            return clip_stage(
                self.model,
                self.data.shards,
                config.clips,
                seed=config.seed + 2,
                execution=execution,
                probe_every=config.probe.every if config.probe else 0,
            )
        raise ValueError(f"stage {name!r} is not in the configuration")

    def _set_targets(self, scenes: SceneData, stem_fraction: float) -> None:
        """Set the targets of the supervised term, from the votes and from the stem as it is now."""
        if self.heads.scenes is not None:
            predictions = (
                stem_predictions(self.model, self.heads.stem, scenes.faces) if stem_fraction else None
            )
            self.heads.scenes.set_targets(scenes.faces, predictions, stem_fraction)

    def _evaluation(self, name: str) -> Evaluation:
        """Return what is measured now and then while the stage trains."""
        if name == "scenes" and self.config.scenes and self.config.scenes.evaluate_every and self.data.scenes:
            return scene_evaluation(self.model, self.data.scenes.archive)
        if name == "clips" and self.config.probe:
            return dataset_evaluation(self.model, self.config.probe, workers=self.config.workers)
        return dict


def configured_stages(config: PretrainConfig) -> tuple[str, ...]:
    """Return the names of the stages that a configuration has, in order."""
    stages = {
        "text": config.text_warmup,
        "stem": config.stem_warmup,
        "scenes": config.scenes,
        "clips": config.clips,
    }
    return tuple(name for name, settings in stages.items() if settings is not None)


def _stored(out: Path, *, resume: bool | Literal["auto"]) -> tuple[Path, dict[str, Any] | None]:
    """Return the checkpoint to resume and its content; None for a new run, which must not replace one."""
    latest = out / CHECKPOINT
    if resume == "auto" and (found := latest_readable(out)):
        return found
    if resume and resume != "auto":
        if not latest.exists():  # stopped before its first checkpoint, or another folder is meant
            raise EmotionError(
                f"--resume: {latest} does not exist: check --out, or start the run without --resume "
                "(--resume auto does either)"
            )
        return latest, load_checkpoint(latest)
    if latest.exists():
        raise EmotionError(f"{latest} already exists: add --resume to continue, or choose another --out")
    if earlier := kept_checkpoints(out):
        raise EmotionError(
            f"{out} has {', '.join(earlier)} of an earlier run, which a new one would mix with its own: "
            "choose another --out, or remove them"
        )
    return latest, None


def _prepare_folder(out: Path, resumed_at: Progress | None, stages: tuple[str, ...]) -> None:
    """Remove the logs of an earlier run, or drop those of steps that a resumed run takes again."""
    log = out / "log.jsonl"
    if resumed_at is not None:
        cut_log(log, resumed_at.stage, resumed_at.step, stages)
        return
    try:
        for old in (log, out / SKIPPED):
            old.unlink(missing_ok=True)
    except OSError as error:
        raise EmotionError(f"--out {out}: {error.strerror}; choose a folder that can be written") from error
