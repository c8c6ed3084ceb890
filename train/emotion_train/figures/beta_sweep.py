"""Compare strengths of the sentiment guidance (paper Fig. 6): the same training at several betas."""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from emotion_runtime.bundle import sha256_of
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_train.clips.reader import ShardSet
from emotion_train.plotting import BLUE, new_figure, style_axes, to_png
from emotion_train.scenes.training_data import SceneData, load_scene_data
from emotion_train.training.config import PretrainConfig
from emotion_train.training.config_files import model_config
from emotion_train.training.evaluation import Evaluation, dataset_evaluation, scene_evaluation
from emotion_train.training.parallel import World
from emotion_train.training.report import VALIDATION
from emotion_train.training.run import CHECKPOINT, Run

RESULT = "beta_sweep"
_SETTINGS, _MEASURED = "settings.json", "measured.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Settings shared by all runs of a sweep.

    Attributes:
        config: Contains [scenes], or [clips] and [probe]. Its warm-ups, [start] weights, beta and number of
            steps are not used.
        checkpoint: Every beta starts from its weights.
        data: As in `emotion-train pretrain`.
        steps: Training steps of each beta.
        out: Folder of the runs, one per beta.
    """

    config: PretrainConfig
    checkpoint: Path
    data: str
    steps: int
    out: Path


def run_sweep(sweep: Sweep, betas: Sequence[float]) -> list[dict[str, Any]]:
    """Train and measure the betas that are not finished; write beta_sweep.json and .png after each.

    The metrics are those of validation: a small probe on unseen faces and zero-shot for scenes, the probe of
    the configuration for clips. If the process is killed, the same call continues from the last checkpoint.

    Returns:
        One row per beta, with `beta` and `figures` (metrics by name).

    Raises:
        EmotionError: A beta or the number of steps is out of range, the configuration has nothing to measure,
            the folder belongs to another sweep, or a run cannot be started.
    """
    _check(sweep, betas)
    settings = _claim(sweep)
    data: str | SceneData | None = None
    rows: list[dict[str, Any]] = []
    for beta in sorted(betas):
        measured = _folder(sweep, beta) / _MEASURED
        if not measured.is_file():
            _log.info("beta %g, %d steps", beta, sweep.steps)
            # Read once for all betas, and only if one still has to be trained.
            data = data or (
                load_scene_data(Path(sweep.data), sweep.config.sentiment)
                if sweep.config.scenes
                else sweep.data
            )
            metrics = _train(sweep, beta, data)
            write_atomically(measured, json.dumps({"beta": beta, "figures": metrics}))
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
        raise EmotionError(f"--betas {given}: expected different values")
    if not (sweep.config.scenes or sweep.config.clips):
        raise EmotionError("the config has no loss with a beta: expected [scenes], or [clips] and [probe]")
    if sweep.config.clips and not sweep.config.probe:
        raise EmotionError("[clips] without [probe] in the config: nothing would be measured; add a [probe]")


def _claim(sweep: Sweep) -> dict[str, Any]:
    """Write the settings of the sweep to its folder, or check that they are those found there."""
    if not sweep.checkpoint.is_file():
        raise EmotionError(f"checkpoint {sweep.checkpoint}: no such file")
    config = msgspec.structs.replace(_config(sweep, 0.0, epochs=1), probe=sweep.config.probe)
    settings = {
        "checkpoint_sha256": sha256_of(sweep.checkpoint),
        "steps": sweep.steps,
        "data": ShardSet.open(sweep.data).fingerprint if config.clips else Path(sweep.data).name,
        # The start is identified by its hash, not its path. Through JSON, as in the file.
        "config": msgspec.json.decode(msgspec.json.encode(config)) | {"start": None},
    }
    path = sweep.out / _SETTINGS
    if not path.is_file():
        write_atomically(path, json.dumps(settings, indent=2))
    found = json.loads(path.read_text(encoding="utf-8"))
    different = [name for name in settings if found.get(name) != settings[name]]
    if different:
        raise EmotionError(
            f"{sweep.out} contains a sweep with another {', '.join(different)}: use the same to continue, or "
            "choose another --out"
        )
    return settings


def _folder(sweep: Sweep, beta: float) -> Path:
    return sweep.out / f"beta-{beta:g}"


def _config(sweep: Sweep, beta: float, *, epochs: int) -> PretrainConfig:
    """Return the configuration of one beta; `epochs` sets the length of the schedule of clips."""
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
    """Return the validation metrics after the steps; a run that was killed is resumed."""
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
    """Return the smallest number of epochs that covers the steps; 1 for scenes."""
    if not sweep.config.clips:
        return 1
    steps_per_epoch = len(ShardSet.open(sweep.data)) // sweep.config.clips.batch
    return math.ceil(sweep.steps / max(steps_per_epoch, 1))  # too few clips: the stage raises


def _evaluation(sweep: Sweep, run: Run) -> Evaluation:
    if sweep.config.probe:
        return dataset_evaluation(run.model, sweep.config.probe)
    if run.data.scenes is None:
        raise ValueError("a sweep without a probe is over scenes")
    return scene_evaluation(run.model, run.data.scenes.archive)


def sweep_png(rows: Sequence[dict[str, Any]], title: str) -> bytes:
    """Draw each metric over beta as PNG, one panel per metric; the betas are evenly spaced.

    Args:
        rows: As `run_sweep` returns them, in order of beta.
        title: Printed above the panels.
    """
    names = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    betas = [f"{row['beta']:g}" + ("\nInfoNCE" if row["beta"] == 0 else "") for row in rows]
    figure = new_figure(max(3.8 * len(names), 4.0), 3.6, title)
    for axes, name in zip(figure.subplots(1, max(len(names), 1), squeeze=False)[0], names, strict=False):
        values = [row["figures"].get(name, math.nan) for row in rows]
        axes.plot(range(len(rows)), values, color=BLUE, marker="o", markersize=6, linewidth=1.6)
        for index, value in enumerate(values):
            label = axes.annotate(
                f"{value:.3f}", (index, value), (0, 8), textcoords="offset points", ha="center", fontsize=8
            )
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6})
        style_axes(axes, name.removeprefix(VALIDATION).replace("_", " "))
        axes.set(xlabel="beta of the loss", xticks=range(len(rows)), xticklabels=betas)
        axes.margins(x=0.12, y=0.22)
    return to_png(figure)
