"""Pre-train EmotionCLIP.

    python train/pretrain.py --config train/configs/nano.toml --data ../shared --out runs/nano
    python train/pretrain.py --config train/configs/nano.toml --data ../shared --out runs/nano --resume

Writes into --out: checkpoint.pt (everything needed to resume, probe and export), log.jsonl (a line a step)
and loss.png. Killed at any moment, --resume goes on from the last checkpoint and takes the same steps.
"""

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from emotion_runtime.errors import EmotionError
from emotion_train.checkpoint import load_checkpoint, save_checkpoint
from emotion_train.config import PretrainConfig, load_config
from emotion_train.data.faces import load_faces
from emotion_train.data.labels import EKMAN
from emotion_train.data.sentences import load_sentences
from emotion_train.data.text import build_bank
from emotion_train.model import PRESETS, EmotionCLIP
from emotion_train.plots import plot_losses
from emotion_train.sentiment import load_sentiment
from emotion_train.stages import scene_stage, stem_stage, text_stage
from emotion_train.trainer import Progress, Runner, Stage, cut_log


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    args = parse_args(argv)
    try:
        pretrain(args)
    except EmotionError as error:
        print(f"pretrain: error: {error}", file=sys.stderr)
        return 2
    return 0


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="a file of train/configs/")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with data/fer2013.npz, data/goemotions_ekman/"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--max-steps", type=int, help="stop after this many steps, over all stages")
    return parser.parse_args(argv)


def pretrain(args: argparse.Namespace) -> None:
    """All stages of a run, from its beginning or its checkpoint."""
    if args.max_steps is not None and args.max_steps < 0:
        raise EmotionError(f"--max-steps {args.max_steps}: expected 0 or more")
    config = load_config(args.config)
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = Run(config, args, device)
    print(f"pretrain: {config.preset} on {device}, {config.precision}; data {args.data}; run {args.out}")
    for name in run.names[run.names.index(run.progress.stage) :]:
        if run.progress.stage != name:
            run.progress.stage, run.progress.step = name, 0
        stage = run.stage(name)
        run.load_optimizer(stage)
        run.runner.run(stage, run.progress)
        plot_losses(run.runner.log, args.out / "loss.png")
        if run.progress.spent():
            print(f"pretrain: stopped by --max-steps in stage {name}; go on with --resume")
            return
    print(
        f"pretrain: done; next: python train/fit_probe.py --dataset scenes --data {args.data} "
        f"--checkpoint {args.out / 'checkpoint.pt'} --out {args.out / 'probe'}"
    )


class Run:
    """A run's model, data and place on disk."""

    def __init__(self, config: PretrainConfig, args: argparse.Namespace, device: torch.device) -> None:
        if config.preset not in PRESETS:
            raise EmotionError(f"preset {config.preset!r}: expected one of {sorted(PRESETS)}")
        self.config, self.data, self.out, self.device = config, args.data / "data", args.out, device
        self.names = tuple(
            name
            for name, wanted in (
                ("text", config.text_warmup),
                ("stem", config.stem_warmup),
                ("scenes", config.scenes),
            )
            if wanted is not None
        )
        self.model = EmotionCLIP(PRESETS[config.preset]).to(device)
        sizes = self.model.config
        # The warm-up stages' own classifiers; they stay in the checkpoint until the run is done.
        self.heads = nn.ModuleDict(
            {
                "text": nn.Linear(sizes.embed_dim, len(EKMAN)),
                "stem": nn.Linear(sizes.vision_width, len(EKMAN)),
            }
        ).to(device)
        self.progress = Progress(self.names[0], 0, args.max_steps)
        self._optimizer_state: dict[str, object] | None = None
        self._stage: Stage | None = None
        self._prepare_folder(resume=args.resume)
        self.sentences = load_sentences(self.data / "goemotions_ekman", "train")
        self.faces = load_faces(self.data / "fer2013.npz", "train")
        self.bank = build_bank(self.sentences, load_sentiment(config.sentiment, self.sentences))
        self.runner = Runner(
            seed=config.seed,
            bf16=config.precision == "bf16",
            device=device,
            workers=config.workers,
            save=self.save,
            save_every=config.save_every,
            log=self.out / "log.jsonl",
        )

    def _prepare_folder(self, *, resume: bool) -> None:
        checkpoint = self.out / "checkpoint.pt"
        if resume:
            state = load_checkpoint(checkpoint)
            self._check_same_run(checkpoint, state)
            self.model.load_state_dict(state["model"])
            self.heads.load_state_dict(state["heads"])
            self.progress = replace(self.progress, stage=state["stage"], step=state["step"])
            self._optimizer_state = state["optimizer"]
            cut_log(self.out / "log.jsonl", self.progress.stage, self.progress.step, self.names)
        elif checkpoint.exists():
            raise EmotionError(f"{checkpoint} exists: add --resume to go on, or choose another --out")
        else:
            try:
                self.out.mkdir(parents=True, exist_ok=True)
                (self.out / "log.jsonl").unlink(missing_ok=True)
            except OSError as error:
                raise EmotionError(
                    f"--out {self.out}: {error.strerror}; choose a folder that can be written"
                ) from error

    def _check_same_run(self, checkpoint: Path, state: dict[str, Any]) -> None:
        """Refuse a checkpoint whose parameters or stages are not those of this run's config."""
        ours, theirs = asdict(self.model.config), asdict(state["config"])
        different = [key for key in ours if ours[key] != theirs[key]]
        problem = None
        if different:
            problem = f"of another model than preset {self.config.preset!r} (other {', '.join(different)})"
        elif state.get("stage") not in self.names:
            problem = (
                f"in stage {state.get('stage')!r}, which is none of the config's ({', '.join(self.names)})"
            )
        if problem:
            raise EmotionError(
                f"{checkpoint} is {problem}: resume with the config it was made with, or choose another --out"
            )

    def stage(self, name: str) -> Stage:
        """The stage of that name, ready to be run."""
        seed = self.config.seed
        if name == "text" and self.config.text_warmup:
            head = self.heads["text"]
            self._stage = text_stage(self.model, head, self.bank, self.config.text_warmup, seed=seed)
        elif name == "stem" and self.config.stem_warmup:
            head = self.heads["stem"]
            self._stage = stem_stage(self.model, head, self.faces, self.config.stem_warmup, seed=seed + 1)
        else:
            self._stage = scene_stage(self.model, self.faces, self.bank, self.config.scenes, seed=seed + 2)
        return self._stage

    def load_optimizer(self, stage: Stage) -> None:
        """Give a resumed stage its optimizer's moments back; later stages start fresh."""
        if self._optimizer_state is not None and self.progress.step > 0:
            # The rates of the configuration win over the saved ones: it may have been edited in between.
            rates = [{k: v for k, v in g.items() if k != "params"} for g in stage.optimizer.param_groups]
            stage.optimizer.load_state_dict(self._optimizer_state)
            for group, configured in zip(stage.optimizer.param_groups, rates, strict=True):
                group.update(configured)
        self._optimizer_state = None

    def save(self) -> None:
        """Write everything that --resume, the probe and the export need."""
        save_checkpoint(
            self.out / "checkpoint.pt",
            config=self.model.config,
            state={
                "model": self.model.state_dict(),
                "heads": self.heads.state_dict(),
                "optimizer": self._stage.optimizer.state_dict() if self._stage else {},
                "stage": self.progress.stage,
                "step": self.progress.step,
            },
        )


if __name__ == "__main__":
    sys.exit(main())
