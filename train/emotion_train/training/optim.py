"""Learning rates and parameter groups."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

# Adam moves a number by about its rate in a step, and the logit of a share has to move by whole numbers
# before the share is another one; a decay would pull every share to a half.
SHIFT_FACTOR = 30.0


def warmup_cosine(
    step: int, *, steps: int, warmup: int, warmup_start: float = 0.0, floor: float = 0.0, stride: int = 1
) -> float:
    """Factor of the learning rate at a step (from 0): a line to 1, then a cosine to `floor`.

    The line begins one step above warmup_start. stride: the cosine falls only at its multiples, as at the
    beginnings of epochs.
    """
    if step < warmup:
        return warmup_start + (1 - warmup_start) * (step + 1) / warmup
    along = max(step - step % stride - warmup, 0) / max(steps - warmup, 1)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(along, 1.0)))


@dataclass(frozen=True, slots=True)
class Schedule:
    """Rates over a stage of `steps` steps; see `warmup_cosine`. final_lr: where the cosine ends, a rate."""

    steps: int
    warmup: int = 60
    warmup_start: float = 0.0
    final_lr: float = 0.0
    stride: int = 1

    def rate(self, step: int, peak: float) -> float:
        """The rate at a step (from 0) of parameters whose highest rate is `peak`."""
        return peak * warmup_cosine(
            step,
            steps=self.steps,
            warmup=self.warmup,
            warmup_start=self.warmup_start,
            floor=min(self.final_lr / peak, 1.0) if peak else 0.0,
            stride=self.stride,
        )


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    vector_lr: float | None = None,
    slow: str = "",
    factor: float = 1.0,
) -> list[dict[str, Any]]:
    """AdamW groups: decay on matrices only; names that contain `slow` learn at `factor` of the rate.

    Gains, biases, embeddings of a single vector and the logit scale are not decayed, as the authors do, and
    learn at `vector_lr`; None: at `lr` like the rest. So do the logits of A of subject-aware masking, and
    `SHIFT_FACTOR` times as fast. Frozen parameters are left out. Each group keeps its peak rate as "peak_lr".
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            shift = name.endswith(".subject_shift")
            own = SHIFT_FACTOR if shift else factor if slow and slow in name else 1.0
            groups.setdefault((parameter.ndim >= 2 and not shift, own), []).append(parameter)
    described = []
    for (matrix, own), parameters in sorted(groups.items()):
        rate = (lr if matrix or vector_lr is None else vector_lr) * own
        decay = weight_decay if matrix else 0.0
        described.append({"params": parameters, "weight_decay": decay, "lr": rate, "peak_lr": rate})
    return described
