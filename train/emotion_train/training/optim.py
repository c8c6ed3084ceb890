"""Learning rate schedules, and parameter groups of the optimizer."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

# Adam moves a number by about its learning rate in a step, and the logit of a fraction has to move by whole
# numbers before the fraction changes much. Weight decay would pull every fraction to one half.
SHIFT_FACTOR = 30.0


def warmup_cosine(
    step: int, *, steps: int, warmup: int, warmup_start: float = 0.0, floor: float = 0.0, stride: int = 1
) -> float:
    """Return the factor of the learning rate at a step: a line up to 1, then a cosine down to `floor`.

    Args:
        step: Number of the step, from 0.
        steps: Number of steps in all.
        warmup: Steps of the line.
        warmup_start: The line begins one step above this factor.
        floor: Factor at the end of the cosine.
        stride: The cosine falls only at multiples of this many steps, for example once per epoch.
    """
    if step < warmup:
        return warmup_start + (1 - warmup_start) * (step + 1) / warmup
    along = max(step - step % stride - warmup, 0) / max(steps - warmup, 1)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(along, 1.0)))


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rates over a stage of `steps` steps; see `warmup_cosine`.

    Attributes:
        final_lr: Learning rate at the end of the cosine.
    """

    steps: int
    warmup: int = 60
    warmup_start: float = 0.0
    final_lr: float = 0.0
    stride: int = 1

    def rate(self, step: int, peak: float) -> float:
        """Return the learning rate at a step, from 0, of parameters whose highest rate is `peak`."""
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
    """Return parameter groups for AdamW, without frozen parameters. Each keeps its peak rate as "peak_lr".

    Only matrices are decayed. Gains, biases, embeddings of a single vector and the logit scale are not, as in
    the authors' training. Neither are the logits of A of subject-aware masking, which also learn
    `SHIFT_FACTOR` times as fast.

    Args:
        named: Names and parameters.
        lr: Learning rate of matrices.
        weight_decay: Of matrices.
        vector_lr: Learning rate of everything else; None means `lr`.
        slow: Parameters whose name contains this learn at `factor` times their rate.
        factor: See `slow`.
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
