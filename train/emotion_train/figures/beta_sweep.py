"""What the strength of the sentiment guidance is worth (paper Fig. 6): the same training at several betas."""

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from emotion_runtime.bundle import sha256_of
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_train.clips.reader import ShardSet
from emotion_train.scenes.training_data import SceneData, load_scene_data
from emotion_train.training.config import PretrainConfig, model_config
from emotion_train.training.evaluation import Evaluation, dataset_evaluation, scene_evaluation
from emotion_train.training.parallel import World
from emotion_train.training.report import VALIDATION
from emotion_train.training.run import CHECKPOINT, Run

RESULT = "beta_sweep"
_SETTINGS, _MEASURED = "settings.json", "measured.json"
INK, BLUE = "#1b2a38", "#2a6f97"


@dataclass(frozen=True, slots=True)
class Sweep:
    """What all betas have in common.

    config: with [scenes], or [clips] and [probe]; its warm-ups, its [start] weights, its beta and its number
    of steps are not used. checkpoint: from whose weights every beta goes on. out: folder of a run a beta.
    """

    config: PretrainConfig
    checkpoint: Path
    data: str
    steps: int
    out: Path


def run_sweep(sweep: Sweep, betas: Sequence[float], say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Train and measure the betas that are not done; write beta_sweep.json and .png after each.

    The figures are those of validation: a small probe on unseen faces and zero-shot for scenes, the probe of
    the configuration for clips. Killed at any moment, the same call goes on from the last checkpoint.

    Raises:
        EmotionError: a beta or the steps are out of range, the configuration has nothing to measure, the
            folder is of another sweep, or the run cannot be made.

    """
    _check(sweep, betas)
    settings = _claim(sweep)
    data: str | SceneData | None = None
    rows: list[dict[str, Any]] = []
    for beta in sorted(betas):
        measured = _folder(sweep, beta) / _MEASURED
        if not measured.is_file():
            say(f"beta {beta:g}, {sweep.steps} steps")
            # Read once for all betas, and only if one is left to train.
            data = data or (
                load_scene_data(Path(sweep.data), sweep.config.sentiment)
                if sweep.config.scenes
                else sweep.data
            )
            figures = _train(sweep, beta, data)
            write_atomically(measured, json.dumps({"beta": beta, "figures": figures}))
        rows.append(json.loads(measured.read_text(encoding="utf-8")))
        result = json.dumps({**settings, "betas": rows}, indent=2) + "\n"
        write_atomically(sweep.out / f"{RESULT}.json", result)
        write_atomically(sweep.out / f"{RESULT}.png", sweep_png(rows, f"{sweep.steps} steps at each beta"))
    return rows


def _check(sweep: Sweep, betas: Sequence[float]) -> None:
    if sweep.steps < 1:
        raise EmotionError(f"--steps {sweep.steps}: expected 1 or more")
    given = " ".join(f"{beta:g}" for beta in betas)
    if not all(0 <= beta < math.inf for beta in betas):
        raise EmotionError(f"--betas {given}: expected numbers of 0 or more; 0 is InfoNCE")
    if len({_folder(sweep, beta) for beta in betas}) < len(betas):
        raise EmotionError(f"--betas {given}: expected different ones")
    if not (sweep.config.scenes or sweep.config.clips):
        raise EmotionError("the config has no loss with a beta: expected [scenes], or [clips] and [probe]")
    if sweep.config.clips and not sweep.config.probe:
        raise EmotionError("[clips] without [probe] in the config: nothing would be measured; add a [probe]")


def _claim(sweep: Sweep) -> dict[str, Any]:
    """What is swept, left in the folder; or the same, found there."""
    if not sweep.checkpoint.is_file():
        raise EmotionError(f"checkpoint {sweep.checkpoint}: no such file")
    config = msgspec.structs.replace(_config(sweep, 0.0, epochs=1), probe=sweep.config.probe)
    settings = {
        "checkpoint_sha256": sha256_of(sweep.checkpoint),
        "steps": sweep.steps,
        "data": ShardSet.open(sweep.data).fingerprint if config.clips else Path(sweep.data).name,
        # The hash says what the start is, whatever its path. Through JSON, as the file goes.
        "config": msgspec.json.decode(msgspec.json.encode(config)) | {"start": None},
    }
    path = sweep.out / _SETTINGS
    if not path.is_file():
        write_atomically(path, json.dumps(settings, indent=2))
    found = json.loads(path.read_text(encoding="utf-8"))
    different = [name for name in settings if found.get(name) != settings[name]]
    if different:
        raise EmotionError(
            f"{sweep.out} holds a sweep with another {', '.join(different)}: give what it was begun with, or "
            "choose another --out"
        )
    return settings


def _folder(sweep: Sweep, beta: float) -> Path:
    return sweep.out / f"beta-{beta:g}"


def _config(sweep: Sweep, beta: float, *, epochs: int) -> PretrainConfig:
    """The run of one beta. epochs: of clips, over which their schedule is stretched."""
    config, change = sweep.config, msgspec.structs.replace
    scenes = config.scenes and change(config.scenes, steps=sweep.steps, beta=beta, evaluate_every=0)
    clips = config.clips and change(
        config.clips, epochs=epochs, beta=beta, warmup=min(config.clips.warmup, sweep.steps // 4)
    )
    start = change(config.start, clip=None, checkpoint=str(sweep.checkpoint))
    return change(
        config, start=start, text_warmup=None, stem_warmup=None, probe=None, scenes=scenes, clips=clips
    )


def _train(sweep: Sweep, beta: float, data: str | SceneData) -> dict[str, float]:
    """Validation figures after the steps; a run that was killed is resumed."""
    out = _folder(sweep, beta)
    config = _config(sweep, beta, epochs=_epochs(sweep))
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = model_config(config.preset, config.model)
    resume = (out / CHECKPOINT).exists()
    run = Run(config, sizes, data=data, out=out, world=World(device=device), resume=resume)
    evaluate = _evaluation(sweep, run)
    run.train(max_steps=sweep.steps - run.progress.step)
    return evaluate()


def _epochs(sweep: Sweep) -> int:
    """As few as hold the steps; scenes have none."""
    if not sweep.config.clips:
        return 1
    an_epoch = len(ShardSet.open(sweep.data)) // sweep.config.clips.batch
    return math.ceil(sweep.steps / max(an_epoch, 1))  # too few clips: the stage itself says so


def _evaluation(sweep: Sweep, run: Run) -> Evaluation:
    if sweep.config.probe:
        return dataset_evaluation(run.model, sweep.config.probe)
    if run.data.scenes is None:
        raise ValueError("a sweep without a probe is over scenes")
    return scene_evaluation(run.model, run.data.scenes.archive)


def sweep_png(rows: Sequence[dict[str, Any]], title: str) -> bytes:
    """A panel a figure: its value over beta, evenly spaced. rows: beta and figures, in order of beta."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    names = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    betas = [f"{row['beta']:g}" + ("\nInfoNCE" if row["beta"] == 0 else "") for row in rows]
    figure = Figure(figsize=(max(3.8 * len(names), 4.0), 3.6), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    for axes, name in zip(figure.subplots(1, max(len(names), 1), squeeze=False)[0], names, strict=False):
        values = [row["figures"].get(name, math.nan) for row in rows]
        axes.plot(range(len(rows)), values, color=BLUE, marker="o", markersize=6, linewidth=1.6)
        for place, value in enumerate(values):
            label = axes.annotate(
                f"{value:.3f}", (place, value), (0, 8), textcoords="offset points", ha="center", fontsize=8
            )
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6})
        axes.set(xlabel="beta of the loss", xticks=range(len(rows)), xticklabels=betas)
        axes.set_title(name.removeprefix(VALIDATION).replace("_", " "), loc="left", fontsize=10, color=INK)
        axes.margins(x=0.12, y=0.22)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=140, metadata={"Software": None})
    return out.getvalue()
