"""Stages that train one number, and what they leave behind."""

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from emotion_train.training.loop import Runner, SimpleObjective, Stage
from emotion_train.training.optim import Schedule
from emotion_train.training.outputs import Outputs
from emotion_train.training.parallel import World
from emotion_train.training.precision import Precision

CPU = torch.device("cpu")


class Numbers(Dataset[Tensor]):
    """Item i: four numbers drawn from the seed i."""

    def __getitem__(self, index: int) -> Tensor:
        return torch.randn(4, 3, generator=torch.Generator().manual_seed(index))


def stage_of(steps: int, *, scale: Callable[[int], float] = lambda _: 1.0, dropout: float = 0.0) -> Stage:
    """A linear layer on its way to zero output; `scale` of the step number multiplies the loss."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 2), nn.Dropout(dropout))
    calls = iter(range(10**6))

    def loss(batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        value = module(batch).square().mean() * scale(next(calls))
        return value, {"first": float(batch[0, 0])}

    optimizer = torch.optim.SGD([{"params": list(module.parameters()), "lr": 0.1, "peak_lr": 0.1}])
    return Stage("toy", Numbers(), SimpleObjective(loss), optimizer, (module,), Schedule(steps, warmup=2))


def runner_in(folder: Path, **changes: Any) -> Runner:
    settings = {
        "seed": 0,
        "precision": Precision("fp32", CPU),
        "world": World(),
        "workers": 0,
    }
    written = {"log": folder / "log.jsonl", "save": lambda: None, "save_every": 1e9}
    names = {field.name for field in fields(Outputs)}
    written |= {name: changes.pop(name) for name in names & changes.keys()}
    return Runner(**settings | changes, outputs=Outputs(**written))


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
