"""The number formats of a training step, and the loss scale that keeps fp16 gradients from underflow."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from emotion_runtime.errors import EmotionError

PrecisionName = Literal["fp32", "bf16", "fp16", "pure-bf16"]


class Precision:
    """Automatic mixed precision: matrix products and convolutions in `name`, weights and losses in float32.

    With "pure-bf16" matrices and their state in the optimizer are bfloat16, too: half the memory, but a step
    of less than 1/512 of a weight is lost. Gains, biases and the temperature stay float32.

    Args:
        name: "fp16" scales the loss so that small gradients survive, as the authors trained; it needs CUDA.
        device: The device that trains.
        tf32: Let a GPU multiply float32 matrices in TF32, with 10 bits of mantissa. This holds for the whole
            process.

    Raises:
        EmotionError: fp16 was requested without CUDA.
    """

    def __init__(self, name: PrecisionName, device: torch.device, *, tf32: bool = False) -> None:
        if name == "fp16" and device.type != "cuda":
            raise EmotionError('precision "fp16" needs CUDA, and this is a CPU: set it to "bf16" or "fp32"')
        self._device = device
        self._pure = name == "pure-bf16"
        types = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16, "pure-bf16": torch.bfloat16}
        self._dtype = types[name]
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        self._scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def prepare(self, module: nn.Module) -> None:
        """Move a module to the device, in the number format of its weights."""
        module.to(self._device)
        for parameter in module.parameters() if self._pure else ():
            if parameter.ndim > 1:  # gains are about 1, and so would lose steps of less than 1/512
                parameter.data = parameter.data.bfloat16()

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass."""
        return torch.autocast(self._device.type, self._dtype, enabled=self._dtype is not None)

    def evaluating(self) -> AbstractContextManager[None]:
        """Return the context in which the model is evaluated: in float32, if its weights are."""
        return self.autocast() if self._pure else nullcontext()

    def scaled(self, loss: Tensor) -> Tensor:
        """Return the loss to differentiate."""
        scaled: Tensor = self._scaler.scale(loss)
        return scaled

    def step(self, optimizer: torch.optim.Optimizer, clip_norm: float) -> float:
        """Clip the gradients and take the optimizer's step; return their norm before clipping.

        In fp16, a step whose gradients overflowed is skipped, and the loss is scaled less from then on.

        Raises:
            EmotionError: In another precision, a gradient is not finite. Nothing was changed.
        """
        self._scaler.unscale_(optimizer)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, clip_norm)
        if not (torch.isfinite(norm) or self._scaler.is_enabled()):
            raise EmotionError(f"a gradient is not finite (norm {norm.item()})")
        self._scaler.step(optimizer)
        self._scaler.update()
        return float(norm)

    def state(self) -> dict[str, float]:
        """Return what a resumed run needs."""
        return dict(self._scaler.state_dict())

    def load_state(self, state: dict[str, float]) -> None:
        """Continue from what `state` returned."""
        self._scaler.load_state_dict(state)
