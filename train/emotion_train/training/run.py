"""A pre-training run: its model, its data and its place on disk."""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import load_checkpoint, save_checkpoint
from emotion_train.clips.reader import ShardSet
from emotion_train.language.labels import EKMAN
from emotion_train.model import EmotionCLIP, ModelConfig
from emotion_train.scenes.training_data import SceneData, load_scene_data
from emotion_train.training.config import PretrainConfig, Scenes, changed_settings
from emotion_train.training.evaluation import Evaluation, dataset_evaluation, scene_evaluation
from emotion_train.training.loop import Progress, Runner, Stage, cut_log
from emotion_train.training.objective import Execution
from emotion_train.training.parallel import World
from emotion_train.training.precision import Precision
from emotion_train.training.report import write_report
from emotion_train.training.stages import clip_stage, scene_stage, stem_stage, text_stage
from emotion_train.training.start import freeze, set_recompute, start_model
from emotion_train.training.supervision import Supervision, stem_answers

CHECKPOINT = "checkpoint.pt"


class Run:
    """Everything a run needs, ready to take its next step.

    data: folder or URL, see `emotion-train pretrain --data`; or what scenes need, ready in memory. out:
    folder of the run. resume: go on from its checkpoint.

    Raises:
        EmotionError: the data, the first weights, the checkpoint or the folder cannot be used.

    """

    def __init__(
        self,
        config: PretrainConfig,
        sizes: ModelConfig,
        *,
        data: str | SceneData,
        out: Path,
        world: World,
        resume: bool,
    ) -> None:
        self.config, self.data, self.out, self.world = config, data, out, world
        self.names = tuple(
            name
            for name, wanted in (
                ("text", config.text_warmup),
                ("stem", config.stem_warmup),
                ("scenes", config.scenes),
                ("clips", config.clips),
            )
            if wanted is not None
        )
        self.progress = Progress(self.names[0])
        self.model = EmotionCLIP(sizes)
        # The warm-up stages' own classifiers; they stay in the checkpoint until the run is done.
        self.text_head = nn.Linear(sizes.embed_dim, len(EKMAN))
        self.stem_head = nn.Linear(sizes.vision_width, len(EKMAN))
        self.heads = nn.ModuleDict({"text": self.text_head, "stem": self.stem_head})
        self.supervision: Supervision | None = None
        self.precision = Precision(config.precision, world.device)
        self._resumed: dict[str, Any] = {}
        self._stage: Stage | None = None
        self.started_from = self._first_weights(resume=resume)
        self.model.to(world.device)
        self.heads.to(world.device)
        freeze(self.model, config.start)
        if config.recompute:
            set_recompute(self.model)
        if world.first:
            self._prepare_folder(resume=resume)
        self.runner = Runner(
            seed=config.seed,
            precision=self.precision,
            world=world,
            workers=config.workers,
            save=self.save,
            save_every=config.save_every,
            log=out / "log.jsonl",
            board=out / "tensorboard",
        )

    # --- data

    @cached_property
    def scene_data(self) -> SceneData:
        """For scenes and their warm-ups."""
        if isinstance(self.data, SceneData):
            return self.data
        return load_scene_data(Path(self.data), self.config.sentiment)

    @cached_property
    def shards(self) -> ShardSet:
        """Clips of video."""
        return ShardSet.open(str(self.data))

    def _load_data(self) -> None:
        """Open everything now, so that what is missing is said before the first step."""
        self.fingerprint = self.shards.fingerprint if self.config.clips else self.scene_data.fingerprint()
        if self.config.scenes and self.config.scenes.supervised:
            self.supervision = Supervision(self.model.config.embed_dim, len(self.scene_data.faces.labels))
            self.heads["scenes"] = self.supervision

    # --- the place on disk

    def _first_weights(self, *, resume: bool) -> str:
        path = self.out / CHECKPOINT
        if not resume:
            if path.exists():
                raise EmotionError(f"{path} exists: add --resume to go on, or choose another --out")
            self._load_data()
            return start_model(self.model, self.config.start)
        state = load_checkpoint(path)
        self._load_data()
        self._check_same_run(path, state)
        self.model.load_state_dict(state["model"])
        self.heads.load_state_dict(state["heads"])
        self.precision.load_state(state.get("precision", {}))
        self.progress = replace(self.progress, stage=state["stage"], step=state["step"])
        self._resumed = state
        return f"resumed at {state['stage']} step {state['step']}"

    def _check_same_run(self, checkpoint: Path, state: dict[str, Any]) -> None:
        """Refuse a checkpoint whose parameters, stages, data or processes are not this run's."""
        ours, theirs = asdict(self.model.config), asdict(state["config"])
        different = [key for key in ours if ours[key] != theirs[key]]
        problem = None
        if different:
            problem = f"of another model than preset {self.config.preset!r} (other {', '.join(different)})"
        elif state.get("stage") not in self.names:
            problem = (
                f"in stage {state.get('stage')!r}, which is none of the config's ({', '.join(self.names)})"
            )
        elif state.get("fingerprint") not in (None, "", self.fingerprint):  # older ones do not say
            problem = f"of a run on other data than {self._data_name()} holds"
        elif state.get("processes", 1) != self.world.size:
            problem = f"of a run of {state.get('processes', 1)} processes, and this has {self.world.size}"
        elif changed := changed_settings(state.get("settings", {}), msgspec.to_builtins(self.config)):
            problem = f"of a run with other settings ({', '.join(changed)})"
        elif state["heads"].keys() != self.heads.state_dict().keys():
            problem = "of a run with another supervised term"
        if problem:
            raise EmotionError(
                f"{checkpoint} is {problem}: resume with the config it was made with, or choose another --out"
            )

    def _prepare_folder(self, *, resume: bool) -> None:
        log = self.out / "log.jsonl"
        if resume:
            cut_log(log, self.progress.stage, self.progress.step, self.names)
            return
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            log.unlink(missing_ok=True)
        except OSError as error:
            raise EmotionError(
                f"--out {self.out}: {error.strerror}; choose a folder that can be written"
            ) from error

    def save(self) -> None:
        """Write everything that --resume, the probe and the export need."""
        save_checkpoint(
            self.out / CHECKPOINT,
            config=self.model.config,
            state={
                "model": self.model.state_dict(),
                "heads": self.heads.state_dict(),
                "optimizer": self._stage.optimizer.state_dict() if self._stage else {},
                "precision": self.precision.state(),
                "stage": self.progress.stage,
                "step": self.progress.step,
                "fingerprint": self.fingerprint,
                "processes": self.world.size,
                "settings": msgspec.to_builtins(self.config),
            },
        )

    # --- training

    def train(self, *, max_steps: int | None = None, say: Callable[[str], None] = print) -> None:
        """Take all steps that are left, or `max_steps` of them, and write the report."""
        self.progress.budget = max_steps
        for name in self.names[self.names.index(self.progress.stage) :]:
            if self.progress.stage != name:
                self.progress.stage, self.progress.step = name, 0
            stage = self.stage(name)
            self.load_optimizer(stage)
            self.runner.run(replace(stage, evaluate=self.evaluation(name)), self.progress)
            if self.world.first:
                write_report(self.out, facts=self.facts())
            if self.progress.spent() and (self.progress.step < stage.steps or name != self.names[-1]):
                say(f"stopped by --max-steps in stage {name}; go on with --resume")
                return
        say(f"done; see {self.out / 'report.html'}; next: {self.next_command()}")

    def stage(self, name: str) -> Stage:
        """The stage of that name, ready to be run."""
        config, seed, world = self.config, self.config.seed, self.world
        execution = Execution(world, config.accumulate, config.compile, config.freeze_batchnorm)
        if name == "text" and config.text_warmup:
            head, bank = self.text_head, self.scene_data.bank
            self._stage = text_stage(self.model, head, bank, config.text_warmup, seed=seed, world=world)
        elif name == "stem" and config.stem_warmup:
            head, faces = self.stem_head, self.scene_data.faces
            self._stage = stem_stage(self.model, head, faces, config.stem_warmup, seed=seed + 1, world=world)
        elif name == "scenes" and config.scenes:
            if self.progress.step == 0:  # later the targets come from the checkpoint
                self._set_targets(config.scenes)
            self._stage = scene_stage(
                self.model,
                self.scene_data,
                config.scenes,
                seed=seed + 2,
                execution=execution,
                supervision=self.supervision,
            )
        elif name == "clips" and config.clips:
            self._stage = clip_stage(
                self.model,
                self.shards,
                config.clips,
                seed=seed + 2,
                execution=execution,
                probe_every=config.probe.every if config.probe else 0,
            )
        else:
            raise ValueError(f"stage {name!r} is not in the configuration")
        return self._stage

    def _set_targets(self, scenes: Scenes) -> None:
        """What the supervised term of scenes asks for, from the labels and from the stem as it is now."""
        if self.supervision is None:
            return
        faces, answers = self.scene_data.faces, None
        if scenes.stem_answers:
            answers = stem_answers(self.model, self.stem_head, faces)
        self.supervision.set_targets(faces, answers, scenes.stem_answers)

    def load_optimizer(self, stage: Stage) -> None:
        """Give a resumed stage its optimizer's moments back; later stages start fresh."""
        if self._resumed and self.progress.step > 0:
            # The rates of the configuration win over the saved ones: it may have been edited in between.
            rates = [{k: v for k, v in g.items() if k != "params"} for g in stage.optimizer.param_groups]
            stage.optimizer.load_state_dict(self._resumed["optimizer"])
            for group, configured in zip(stage.optimizer.param_groups, rates, strict=True):
                group.update(configured)
        self._resumed = {}

    def evaluation(self, name: str) -> Evaluation:
        """What is measured now and then while the stage runs."""
        if name == "scenes" and self.config.scenes and self.config.scenes.evaluate_every:
            return scene_evaluation(self.model, self.scene_data.archive)
        if name == "clips" and self.config.probe:
            return dataset_evaluation(self.model, self.config.probe, workers=self.config.workers)
        return dict

    # --- for people

    def facts(self) -> dict[str, str]:
        """What the report says of the run besides its curves."""
        learning = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        return {
            "preset": self.config.preset,
            "who is meant": self.model.config.subject + (" + bias" if self.model.config.subject_bias else ""),
            "temporal encoder": self.model.config.temporal,
            "parameters": f"{sum(p.numel() for p in self.model.parameters()):,}, {learning:,} learn",
            "start": self.started_from,
            "data": self._data_name() + (f" ({self.fingerprint[:12]})" if self.fingerprint else ""),
            "processes": f"{self.world.size} x {self.world.device.type}, {self.config.precision}",
            "seed": str(self.config.seed),
            "torch": torch.__version__,
        }

    def next_command(self) -> str:
        """What people do after pre-training."""
        dataset = "scenes" if self.config.scenes else "NAME"
        data = self._data_name() if self.config.scenes else "PATH"
        return (
            f"emotion-train fit-probe --dataset {dataset} --data {data} "
            f"--checkpoint {self.out / CHECKPOINT} --out {self.out / 'probe'}"
        )

    def _data_name(self) -> str:
        return "in memory" if isinstance(self.data, SceneData) else self.data
