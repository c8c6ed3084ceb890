"""Several processes that train one model, as `torchrun` starts them. One process is a special case."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from emotion_runtime.errors import EmotionError

# The others wait while the first process evaluates, which can take longer than the usual ten minutes.
PATIENCE = timedelta(hours=6)

_LAST_FREED = 0.5  # seconds

_SET_BY_TORCHRUN = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class World:
    """One process among all that train together.

    Attributes:
        rank: Its number. Process 0 writes files and reports.
        size: How many there are.
        device: The device of this process.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0


@contextmanager
def joined_world() -> Iterator[World]:
    """Join the processes that `torchrun` started; without it, there is one.

    Each process takes a GPU of its own if CUDA is available; otherwise they share the CPU, through gloo.

    Raises:
        EmotionError: Another program than `torchrun` set WORLD_SIZE, or there are fewer GPUs than processes.
    """
    cuda = torch.cuda.is_available()
    if "WORLD_SIZE" not in os.environ:
        yield World(device=torch.device("cuda" if cuda else "cpu"))
        return
    missing = [name for name in _SET_BY_TORCHRUN if name not in os.environ]
    if missing:
        raise EmotionError(
            f"WORLD_SIZE is set, but not {', '.join(missing)}: start several processes with torchrun, or "
            "unset WORLD_SIZE to train with one"
        )
    device = _own_gpu() if cuda else torch.device("cpu")
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield World(distributed.get_rank(), distributed.get_world_size(), device)
        # Wait for all before tearing down the group: without it, about 1 run in 12 aborted at its end.
        distributed.barrier()
        # Gloo's threads live on beside wrapped models, and free the tensors of the last exchanges when they
        # get a core. One that does so while the interpreter ends aborts the process, after all work is done.
        time.sleep(_LAST_FREED)
    finally:
        distributed.destroy_process_group()


def _own_gpu() -> torch.device:
    """Take the GPU of this process.

    All processes of a machine with too few GPUs are refused, since those with one would wait for the others.
    """
    local = int(os.environ["LOCAL_RANK"])
    processes, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", local + 1)), torch.cuda.device_count()
    usable = f"{gpus} GPU{'s' * (gpus != 1)}"
    if processes > gpus:
        raise EmotionError(
            f"torchrun started {processes} processes on this machine, but {usable} can be used, and "
            f"each process needs one of its own: give torchrun --nproc-per-node {gpus}, or set "
            "CUDA_VISIBLE_DEVICES='' to train on the CPU"
        )
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device


def wrap(module: nn.Module, world: World, *, unused: bool = False) -> nn.Module:
    """Return the module with its gradients averaged over all processes in the backward pass.

    Args:
        module: The module to train.
        world: The processes.
        unused: Whether some trained parameters take no part in a forward pass.
    """
    if world.size == 1:
        return module
    devices = [world.device.index] if world.device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=devices, find_unused_parameters=unused)


def without_averaging(module: nn.Module) -> AbstractContextManager[None]:
    """Return a context in which a wrapped module's gradients only add up in this process."""
    if isinstance(module, DistributedDataParallel):
        apart: AbstractContextManager[None] = module.no_sync()
        return apart
    return nullcontext()


def in_any_process(fact: bool, world: World) -> bool:
    """Return whether something holds in at least one of the processes, all of which must call this."""
    if world.size == 1:
        return fact
    flag = torch.tensor([int(fact)], device=world.device)
    distributed.all_reduce(flag, distributed.ReduceOp.MAX)
    return bool(flag.item())


def gather_rows(rows: Tensor, world: World) -> tuple[Tensor, slice]:
    """Join the rows of all processes in order of rank. No gradient flows through.

    Args:
        rows: (b, ...) of this process; others may have another number of rows.
        world: The processes.

    Returns:
        The joined rows (B, ...), and the slice of them that is this process's own.
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


def sum_over_processes(tensors: Sequence[Tensor], world: World) -> Sequence[Tensor]:
    """Return the sums of tensors over all processes, in which they have the same shapes and float type."""
    if world.size == 1:
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors])  # one exchange instead of one for each
    distributed.all_reduce(flat)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]
