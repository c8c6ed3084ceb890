"""Learning rates and parameter groups."""

import math
from collections.abc import Iterable
from typing import Any

from torch import nn


def warmup_cosine(step: int, *, steps: int, warmup: int, floor: float = 0.0) -> float:
    """Factor of the learning rate at a step (from 0): linear from ~0 to 1, then a cosine to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    along = (step - warmup) / max(steps - warmup, 1)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(along, 1.0)))


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    slow: str = "",
    factor: float = 1.0,
) -> list[dict[str, Any]]:
    """AdamW groups: decay on matrices only; names that contain `slow` learn at `factor` of the rate.

    Gains, biases, embeddings of a single vector and the logit scale are not decayed, as the authors do.
    Frozen parameters are left out. Each group keeps its peak rate as "peak_lr".
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            key = (parameter.ndim >= 2, bool(slow) and slow in name)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": weight_decay if matrix else 0.0,
            "lr": lr * (factor if is_slow else 1.0),
            "peak_lr": lr * (factor if is_slow else 1.0),
        }
        for (matrix, is_slow), parameters in sorted(groups.items())
    ]
