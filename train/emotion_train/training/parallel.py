"""Several processes that train one model, as `torchrun` starts them; one process is the special case."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

# The others wait while the first process evaluates, which can take longer than the usual ten minutes.
PATIENCE = timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class World:
    """A process among all. rank: 0 is the one that writes files and speaks. device: its own."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0


@contextmanager
def joined_world() -> Iterator[World]:
    """The world `torchrun` made, or one process; a GPU each where there is CUDA, else the CPU and gloo."""
    cuda = torch.cuda.is_available()
    if "WORLD_SIZE" not in os.environ:
        yield World(device=torch.device("cuda" if cuda else "cpu"))
        return
    local = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield World(distributed.get_rank(), distributed.get_world_size(), device)
        # Nobody leaves while another still talks: without it one run in a dozen aborted at its end.
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def wrap(module: nn.Module, world: World, *, unused: bool = False) -> nn.Module:
    """The module with gradients averaged over all processes in the backward pass.

    unused: some of its learning parameters take no part in a forward pass.
    """
    if world.size == 1:
        return module
    devices = [world.device.index] if world.device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=devices, find_unused_parameters=unused)


def without_averaging(module: nn.Module) -> AbstractContextManager[None]:
    """Context in which a wrapped module's gradients only add up in this process."""
    if isinstance(module, DistributedDataParallel):
        apart: AbstractContextManager[None] = module.no_sync()
        return apart
    return nullcontext()


def gather_rows(rows: Tensor, world: World) -> tuple[Tensor, slice]:
    """Rows (b, ...) of all processes joined in order of rank, (B, ...), and where this one's are in it.

    Processes may have different numbers of rows. No gradient flows through.
    """
    if world.size == 1:
        return rows, slice(0, rows.shape[0])
    count = torch.tensor([rows.shape[0]], device=rows.device)
    counts = [torch.zeros_like(count) for _ in range(world.size)]
    distributed.all_gather(counts, count)
    sizes = [int(c) for c in counts]
    # A collective takes equal shapes: pad to the longest, cut afterwards.
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: rows.shape[0]] = rows
    parts = [torch.empty_like(padded) for _ in range(world.size)]
    distributed.all_gather(parts, padded)
    start = sum(sizes[: world.rank])
    joined = torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
    return joined, slice(start, start + rows.shape[0])
