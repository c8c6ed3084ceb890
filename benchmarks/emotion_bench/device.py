"""A device under PyTorch: the time of a call on it, and its measured limits."""

from collections.abc import Callable

import torch

from emotion_bench.rounds import median_seconds

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

_WARM_UP = 3  # allocations and choices of the first calls cannot be captured


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
        """Return the seconds of one call; see `median_seconds`."""
        return median_seconds(call, self.synchronize)

    def capture(self, call: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Capture a call as a CUDA graph; return what replays it. CUDA only."""
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = call()

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return replay


def matmul_flops(device: Device, precision: str, side: int) -> float:
    """Return the multiplications and additions per second of a product of two square matrices."""
    a, b = (torch.randn(side, side, device=device.torch, dtype=PRECISIONS[precision]) for _ in range(2))
    return 2 * side**3 / device.seconds(lambda: torch.mm(a, b))


def copy_bytes(device: Device, size: int) -> float:
    """Return the bytes per second, read and written, of a copy of `size` bytes within the device's memory."""
    source = torch.zeros(size, dtype=torch.uint8, device=device.torch)
    target = torch.empty_like(source)
    return 2 * size / device.seconds(lambda: target.copy_(source))
