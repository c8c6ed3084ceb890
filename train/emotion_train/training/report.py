"""The report of a pre-training run: one HTML file with its curves, readable without other tools."""

import html
import json
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from emotion_runtime import __version__
from emotion_runtime.files import write_atomically
from emotion_train.model import EmotionCLIP
from emotion_train.plotting import SERIES, new_figure, style_axes, to_svg
from emotion_train.training.config import PretrainConfig
from emotion_train.training.parallel import World
from emotion_train.training.run_data import RunData

RATE = "Learning rate"
# Panels of a stage: title, and the metrics of the log that it shows, with their names for readers.
PANELS: tuple[tuple[str, dict[str, str]], ...] = (
    ("Loss", {"loss": "loss"}),
    (RATE, {"lr": "first group"}),
    ("Norm of the gradient", {"grad_norm": "before clipping"}),
    ("Inverse temperature", {"scale": "1 / tau"}),
    (
        "Accuracy in the batch",
        {"accuracy": "emotion", "retrieval": "own sentence is nearest", "zero_shot": "emotion, zero-shot"},
    ),
    ("Validation", {}),  # whatever the log has that begins with "val_"
)
VALIDATION = "val_"
# The commit, then what has changed.
_STATUS = ("status", "--porcelain=v2", "--branch", "--untracked-files=no")
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2.5rem auto; padding: 0 1rem;
  color: #1d2733; background: #fff }}
h1 {{ font-size: 1.6rem; margin-bottom: .2rem }} h2 {{ font-size: 1.15rem; margin: 2.2rem 0 .4rem }}
table {{ border-collapse: collapse; font-size: .92rem }}
td {{ padding: .2rem 1.2rem .2rem 0; vertical-align: top }} td:first-child {{ color: #5b6876 }}
svg {{ width: 100%; height: auto }} .lead {{ color: #5b6876; margin-top: 0 }}
</style><h1>{title}</h1><p class="lead">{lead}</p><table>{facts}</table>
<details><summary>Configuration</summary><pre>{configuration}</pre></details>{stages}</html>
"""

Entries = list[dict[str, Any]]


def run_facts(
    config: PretrainConfig, model: EmotionCLIP, data: RunData, world: World, started_from: str
) -> dict[str, str]:
    """Return what the report tells about a run besides its curves."""
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {
        "preset": config.preset,
        "subject": model.config.subject + (" + bias" if model.config.subject_bias else ""),
        "temporal encoder": model.config.temporal,
        "parameters": f"{total:,}, {trained:,} of them trained",
        "start": started_from,
        "data": data.name + (f" ({data.fingerprint[:12]})" if data.fingerprint else ""),
        "processes": f"{world.size} x {world.device.type}, {config.precision}",
        "seed": str(config.seed),
        **_stage_facts(config, world),
        "environment": f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"{_device_name(world)}, {platform.platform()}",
        "version": _version(),
    }


def _stage_facts(config: PretrainConfig, world: World) -> dict[str, str]:
    """Return what a paper states about contrastive training: batch, learning rates and beta."""
    if config.clips:
        clips = config.clips
        rates = {"matrices": clips.lr, "gains and biases": clips.vector_lr, "temperature": clips.scale_lr}
        rates |= {"temporal matrices": clips.head_lr, "temporal gains and biases": clips.head_vector_lr}
        return {
            "batch": f"{clips.batch * world.size} clips ({clips.batch} per process), {clips.epochs} epochs",
            "peak learning rates": ", ".join(f"{name} {rate:g}" for name, rate in rates.items() if rate),
            "weight decay": f"{clips.weight_decay:g}",
            "beta": f"{clips.beta:g}, KL {clips.kl_direction}",
        }
    if config.scenes:
        scenes = config.scenes
        return {
            "batch": f"{scenes.scenes_per_batch * world.size} scenes, {scenes.steps} steps",
            "peak learning rates": f"{scenes.lr:g}",
            "weight decay": f"{scenes.weight_decay:g}",
            "beta": f"{scenes.beta:g}, KL {scenes.kl_direction}",
        }
    return {}


def _device_name(world: World) -> str:
    if world.device.type == "cuda":
        return torch.cuda.get_device_name(world.device)
    return f"{torch.get_num_threads()} threads of a CPU"


@cache
def _version() -> str:
    """Return the version of the project, and the commit if it runs from a clone."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return __version__
    try:
        done = subprocess.run(
            # `git describe --dirty` would write the index.
            [*("git", "--no-optional-locks", "-C", root), *_STATUS],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return __version__
    lines = done.stdout.splitlines()
    commit = next(line.split()[-1] for line in lines if line.startswith("# branch.oid "))
    changed = any(not line.startswith("#") for line in lines)
    return f"{__version__}, commit {commit[:12]}{'-dirty' if changed else ''}"


def write_report(run: Path, *, facts: Mapping[str, str], config: PretrainConfig) -> Path:
    """Write report.html beside log.jsonl: the facts, and the curves and the pace of every stage.

    Args:
        run: Folder of the run.
        facts: Rows of the table on top.
        config: Of the run.

    Returns:
        The path of the report.
    """
    stages: dict[str, Entries] = {}
    for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        stages.setdefault(entry["stage"], []).append(entry)
    steps = sum(len(entries) for entries in stages.values())
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in facts.items()
    )
    page = _PAGE.format(
        title=f"Pre-training run {html.escape(run.resolve().name)}",
        lead=f"{steps} steps in {len(stages)} stage{'s' if len(stages) != 1 else ''}",
        facts=rows,
        configuration=html.escape(msgspec.json.format(msgspec.json.encode(config), indent=2).decode()),
        stages="".join(
            f"<h2>{html.escape(name)}</h2><p class='lead'>{_pace(entries)}</p>{_curves(entries)}"
            for name, entries in stages.items()
        ),
    )
    path = run / "report.html"
    write_atomically(path, page)
    return path


def _pace(entries: Entries) -> str:
    """Describe the number of steps, their speed, and how long they waited for data."""
    seconds = np.array([1 / max(e["rows_per_s"], 1e-9) for e in entries])
    rate = 1 / float(np.median(seconds))
    waited = float(np.mean([e["waited"] for e in entries]))
    return (
        f"{len(entries)} steps; median {rate:,.1f} rows a second; {waited:.1%} of the time waiting for data"
    )


def _curves(entries: Entries) -> str:
    """Return all panels of a stage that have something to show, as one SVG."""
    panels = [(title, _lines(entries, names)) for title, names in PANELS]
    validation = sorted({key for e in entries for key in e if key.startswith(VALIDATION)})
    panels[-1] = (panels[-1][0], _lines(entries, {key: key.removeprefix(VALIDATION) for key in validation}))
    return _svg([(title, lines) for title, lines in panels if lines])


def _lines(entries: Entries, names: Mapping[str, str]) -> dict[str, NDArray[np.float64]]:
    """Return (n, 2) steps and values by label, of the metrics that are in the log."""
    found = {
        label: np.array([(e["step"], e[key]) for e in entries if key in e], np.float64)
        for key, label in names.items()
    }
    return {label: points for label, points in found.items() if len(points)}


def _svg(panels: list[tuple[str, dict[str, NDArray[np.float64]]]]) -> str:
    """Draw panels, two per row: each value faint, its running mean strong."""
    rows = (len(panels) + 1) // 2
    figure = new_figure(9.6, 2.9 * rows)
    for index, (title, lines) in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, 2, index)
        for color, (label, points) in zip(SERIES, lines.items(), strict=False):
            steps, values = points.T
            span = max(len(values) // 40, 1)
            mean = np.convolve(values, np.ones(span) / span, mode="valid")
            few = len(values) < 40 or title == RATE  # a learning rate has no noise to smooth
            axes.plot(
                steps,
                values,
                color=color,
                alpha=1 if few else 0.2,
                lw=1.6 if few else 0.8,
                marker="o" if len(values) < 40 else None,
                ms=3,
                label=label if few else None,
            )
            if not few:
                axes.plot(steps[span - 1 :], mean, color=color, lw=1.8, label=label)
        style_axes(axes, title)
        axes.set_xlabel("step", fontsize=9)
        if len(lines) > 1:
            axes.legend(fontsize=8, frameon=False)
    return to_svg(figure)
