"""Pictures of a run."""

import json
from pathlib import Path

import numpy as np


def plot_losses(log: Path, out: Path) -> None:
    """Loss curve of every stage as PNG: each step faint, its running mean strong."""
    import matplotlib as mpl  # noqa: PLC0415  (slow to import)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    stages: dict[str, list[tuple[int, float]]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        stages.setdefault(entry["stage"], []).append((entry["step"], entry["loss"]))
    if not stages:
        return
    figure, axes = plt.subplots(1, len(stages), figsize=(4.2 * len(stages), 3.2), squeeze=False)
    for axis, (name, points) in zip(axes[0], stages.items(), strict=True):
        steps, losses = np.array(points).T
        span = max(len(losses) // 40, 1)
        mean = np.convolve(losses, np.ones(span) / span, mode="valid")
        axis.plot(steps, losses, color="#2a6f97", alpha=0.2, linewidth=0.8)
        axis.plot(steps[span - 1 :], mean, color="#2a6f97", linewidth=1.8)
        axis.set(title=name, xlabel="step", ylabel="loss")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    figure.tight_layout()
    figure.savefig(out, dpi=130)
    plt.close(figure)
