"""Measure the peak memory of the contrastive loss, beside a second implementation of how it was before."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from emotion_train.losses import PiecewiseLoss

PROCESSES = 8  # each holds an eighth of the rows
_SCALE = 14.0


class _Allocated(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch has no types here
    """Follows the bytes of all tensors that operations make, by their storage."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # as above
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it returns."""
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._alive:
            return
        self._alive.add(address)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, address, size)

    def _freed(self, address: int, size: int) -> None:
        self._alive.discard(address)
        self.now -= size


def loss_memory(batches: tuple[int, ...]) -> dict[str, dict[int, float]]:
    """Return the peak MiB of loss and gradients in one of several processes, by the joined batch."""
    return {
        "now": {batch: _peak(_now, batch) for batch in batches},
        "before": {batch: _peak(_before, batch) for batch in batches},
    }


def _peak(compute: Callable[[Tensor, Tensor, Tensor], None], batch: int) -> float:
    random = torch.Generator().manual_seed(0)
    video, text = (F.normalize(torch.randn(batch, 512, generator=random), dim=1) for _ in range(2))
    sentiment = torch.randn(batch, 7, generator=random)
    with _Allocated() as allocated:
        compute(video, text, sentiment)
    return float(allocated.peak / 2**20)


def _now(video: Tensor, text: Tensor, sentiment: Tensor) -> None:
    rows = slice(0, len(video) // PROCESSES)
    PiecewiseLoss(10.0, "official")(video, text, sentiment, rows=rows, scale=torch.tensor(_SCALE))


def _before(video: Tensor, text: Tensor, sentiment: Tensor) -> None:
    """Compute the whole matrix in every process."""
    video, text = video.clone().requires_grad_(), text.clone().requires_grad_()
    log_p = F.log_softmax(sentiment.double(), dim=-1)
    p = log_p.exp()
    divergence = ((p * log_p).sum(dim=-1, keepdim=True) - p @ log_p.T).T
    weights = (10.0 / divergence.clamp(min=0)).fill_diagonal_(0).float()
    similarity = _SCALE * video @ text.T
    target = torch.arange(len(video))
    loss = F.cross_entropy(similarity - weights, target) + F.cross_entropy(similarity.T - weights, target)
    torch.autograd.grad(loss / 2, (video, text))
