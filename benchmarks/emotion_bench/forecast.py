"""Predict a run on several GPUs from measured parts; what was not measured is left out, and named."""

import math
from typing import Any

NOT_MEASURED = (
    "exchange of gradients and features between GPUs",
    "the network and the object store under this load",
    "evaluation, checkpoints and restarts",
)


def forecast(
    preset: dict[str, Any],
    loader: dict[str, Any],
    latency: dict[str, float],
    *,
    gpus: int = 8,
    clips: int = 1_000_000,
    epochs: int = 25,
) -> dict[str, Any]:
    """Return what a run needs whose GPUs each compute as fast as the measured device.

    Args:
        preset: What `train_step.measure` returned.
        loader: What `loader.loader_cost` returned.
        latency: What `loader.latency_cost` returned, whose bytes and requests are those of a server.
        gpus: Number of GPUs.
        clips: Number of clips.
        epochs: Number of epochs.
    """
    ms = preset["ms_per_step"]
    computing = 1000 * preset["batch"] / (ms["whole"] - ms["data"])  # clips per second and device
    rate = gpus * computing
    workers = computing * loader["cpu_ms_per_clip"] / 1000
    return {
        "gpus": gpus,
        "clips": clips,
        "epochs": epochs,
        "clips_per_s": rate,
        "hours_per_epoch": clips / rate / 3600,
        "days": epochs * clips / rate / 86400,
        "workers_per_gpu": math.ceil(workers / 0.8),  # a fifth in reserve
        "mb_per_s": rate * latency["bytes_per_clip"] / 1e6,
        "requests_per_s": rate * latency["requests_per_clip"],
        "not_measured": list(NOT_MEASURED),
    }
