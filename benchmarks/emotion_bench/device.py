"""A device under PyTorch: the time of a call on it, and its measured limits."""

import statistics
import time
from collections.abc import Callable

import torch

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

_BLOCKS = 5  # blocks of calls, of which the median counts
_BLOCK_SECONDS = 0.04
_WARM_UP = 3


class Device:
    """The device on which everything runs, and its clock; its name is "cuda" or "cpu"."""

    def __init__(self, name: str) -> None:
        self.torch = torch.device(name)
        # TF32 rounds to 10 bits although the tensors are float32.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False

    @property
    def captures(self) -> bool:
        """Whether CUDA graphs exist."""
        return self.torch.type == "cuda"

    def synchronize(self) -> None:
        """Wait until all work is done."""
        if self.torch.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, call: Callable[[], object]) -> float:
        """Return the seconds of one call: the median of several blocks of calls, each ended by a wait."""
        for _ in range(_WARM_UP):
            call()
        once = self._block(call, 1)
        count = max(1, round(_BLOCK_SECONDS / max(once, 1e-9)))
        return statistics.median(self._block(call, count) for _ in range(_BLOCKS))

    def _block(self, call: Callable[[], object], count: int) -> float:
        self.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            call()
        self.synchronize()
        return (time.perf_counter() - start) / count

    def capture(self, call: Callable[[], torch.Tensor]) -> tuple[Callable[[], object], torch.Tensor]:
        """Capture a call as a CUDA graph; return what replays it and the tensor of its result. CUDA only."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # allocations and choices of the first calls cannot be captured
            for _ in range(_WARM_UP):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = call()
        return graph.replay, result


def matmul_flops(device: Device, precision: str, side: int) -> float:
    """Return the multiplications and additions per second of a product of two square matrices."""
    a, b = (torch.randn(side, side, device=device.torch, dtype=PRECISIONS[precision]) for _ in range(2))
    return 2 * side**3 / device.seconds(lambda: torch.mm(a, b))


def copy_bytes(device: Device, size: int) -> float:
    """Return the bytes per second, read and written, of a copy of `size` bytes within the device's memory."""
    source = torch.zeros(size, dtype=torch.uint8, device=device.torch)
    target = torch.empty_like(source)
    return 2 * size / device.seconds(lambda: target.copy_(source))
