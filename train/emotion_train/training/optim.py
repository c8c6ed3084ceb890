"""Learning rate schedules, and parameter groups of the optimizer."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
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


def cosine_under_warmup(
    step: int, *, steps: int, warmup: int, warmup_start: float = 0.0, floor: float = 0.0, stride: int = 1
) -> float:
    """Return the factor of the learning rate at a step: a cosine over all steps, with a warm-up laid over it.

    As in the authors' training. The warm-up is a line from `warmup_start` at step 0 to the value that the
    cosine has reached at step `warmup`, which is less than 1 if that is not in the first stride.

    Args:
        step: Number of the step, from 0.
        steps: Number of steps in all.
        warmup: Steps of the line.
        warmup_start: Factor at step 0, if there is a warm-up.
        floor: Factor at the end of the cosine.
        stride: The cosine falls only at multiples of this many steps, for example once per epoch.
    """
    along = max(step, warmup)
    angle = math.pi * min((along - along % stride) / steps, 1.0)
    cosine = floor + (1 - floor) * 0.5 * (1 + math.cos(angle))
    if step < warmup:
        return warmup_start + (cosine - warmup_start) * step / warmup
    return cosine


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rates over a stage of `steps` steps; see `warmup_cosine`.

    Attributes:
        final_lr: Learning rate at the end of the cosine.
        whole_cosine: Whether the cosine begins with the first step, see `cosine_under_warmup`, instead of
            after the warm-up.
    """

    steps: int
    warmup: int = 60
    warmup_start: float = 0.0
    final_lr: float = 0.0
    stride: int = 1
    whole_cosine: bool = False

    def rate(self, step: int, peak: float) -> float:
        """Return the learning rate at a step, from 0, of parameters whose highest rate is `peak`."""
        factor = cosine_under_warmup if self.whole_cosine else warmup_cosine
        return peak * factor(
            step,
            steps=self.steps,
            warmup=self.warmup,
            warmup_start=self.warmup_start,
            floor=min(self.final_lr / peak, 1.0) if peak else 0.0,
            stride=self.stride,
        )


@dataclass(frozen=True, slots=True)
class Rates:
    """Peak learning rates of the parts of a model, as the authors tell them apart.

    Attributes:
        matrices: Of the frame and the text encoder.
        vectors: Gains, biases and everything else that is not a matrix, of these encoders.
        head_matrices: Matrices of the temporal encoder.
        head_vectors: The vectors of the temporal encoder.
        scale: The logarithm of 1/tau.
    """

    matrices: float
    vectors: float
    head_matrices: float
    head_vectors: float
    scale: float


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    weight_decay: float,
    slow: str = "",
    factor: float = 1.0,
) -> list[dict[str, Any]]:
    """Return parameter groups for AdamW, without frozen parameters. Each keeps its peak rate as "peak_lr".

    Only matrices are decayed. Gains, biases, embeddings of a single vector and the logit scale are not, as in
    the authors' training. Neither are the logits of A of subject-aware masking, which also learn
    `SHIFT_FACTOR` times as fast.

    Args:
        named: Names and parameters.
        lr: Learning rate.
        weight_decay: Of matrices.
        slow: Parameters whose name contains this learn at `factor` times their rate.
        factor: See `slow`.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in named:
        if parameter.requires_grad:
            own = SHIFT_FACTOR if _is_shift(name) else factor if slow and slow in name else 1.0
            groups.setdefault((_is_decayed(name, parameter), own), []).append(parameter)
    return [
        _group(parameters, lr * own, weight_decay if matrix else 0.0)
        for (matrix, own), parameters in sorted(groups.items(), key=itemgetter(0))
    ]


def parameter_groups_by_part(
    named: Iterable[tuple[str, nn.Parameter]], *, rates: Rates, weight_decay: float
) -> list[dict[str, Any]]:
    """Return parameter groups as `parameter_groups` does, with rates of their own for the parts of the model.

    There is a group for each part, also where rates are equal: a resumed run may change them.

    Args:
        named: Names and parameters of an `EmotionCLIP`.
        rates: Peak learning rates.
        weight_decay: Of matrices.
    """
    rate_of = {
        (False, "encoders"): rates.vectors,
        (False, "head"): rates.head_vectors,
        (False, "scale"): rates.scale,
        (False, "shift"): rates.vectors * SHIFT_FACTOR,
        (True, "encoders"): rates.matrices,
        (True, "head"): rates.head_matrices,
    }
    groups: dict[tuple[bool, str], list[nn.Parameter]] = {key: [] for key in rate_of}
    for name, parameter in named:
        if parameter.requires_grad:
            groups[_is_decayed(name, parameter), _part(name)].append(parameter)
    return [
        _group(parameters, rate_of[key], weight_decay if key[0] else 0.0)
        for key, parameters in groups.items()
        if parameters
    ]


def _part(name: str) -> str:
    if name == "logit_scale":
        return "scale"
    if _is_shift(name):
        return "shift"
    return "head" if name.startswith("visual_head.") else "encoders"


def _is_shift(name: str) -> bool:
    """Return whether a parameter holds the logits of A of subject-aware masking."""
    return name.endswith(".subject_shift")


def _is_decayed(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and not _is_shift(name)


def _group(parameters: list[nn.Parameter], rate: float, decay: float) -> dict[str, Any]:
    return {"params": parameters, "weight_decay": decay, "lr": rate, "peak_lr": rate}
