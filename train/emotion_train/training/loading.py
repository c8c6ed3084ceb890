"""Load the batches of a stage, in processes of their own if there are any."""

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from emotion_runtime.errors import EmotionError
from emotion_train.training.parallel import World
from emotion_train.training.preemption import outlive_signals, start_shielded_forkserver


def load_batches(batches: Dataset[Any], start: int, stop: int, world: World, workers: int) -> Iterator[Any]:
    """Yield the batches of this process for the steps start .. stop - 1, in order.

    Args:
        batches: Item i is the batch of step i // n in process i % n, of n processes.
        start: The first step.
        stop: The step after the last.
        world: The processes that train together.
        workers: Processes that load batches; 0 loads them in this one.

    Raises:
        EmotionError: A batch cannot be read.
    """
    # Otherwise each worker imports torch by itself, one after the other: minutes with many of them.
    multiprocessing.set_forkserver_preload([type(batches).__module__])
    if workers:
        start_shielded_forkserver()
    loader: DataLoader[Any] = DataLoader(
        _ErrorsAsBatches(batches),
        batch_size=None,
        sampler=_ProcessBatches(start, stop, world),
        num_workers=workers,
        # A forked worker would inherit locks of OpenCV's and TensorBoard's threads, and wait forever.
        multiprocessing_context="forkserver" if workers else None,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_one_thread,
        pin_memory=world.device.type == "cuda",
    )
    for batch in loader:
        if isinstance(batch, _FailedBatch):
            raise EmotionError(batch.message)
        yield batch


@dataclass(frozen=True, slots=True)
class _FailedBatch:
    """Takes the place of a batch that could not be read, because of an error that the user can fix."""

    message: str


class _ErrorsAsBatches(Dataset[Any]):
    """Returns a worker's errors as batches: raised there, they would come with the worker's traceback."""

    def __init__(self, batches: Dataset[Any]) -> None:
        self.batches = batches

    def __getitem__(self, index: int) -> Any:
        try:
            return self.batches[index]
        except EmotionError as error:
            return _FailedBatch(str(error))


class _ProcessBatches(Sampler[int]):
    """Yields the batch indices of one process for the steps start .. stop - 1, in order."""

    def __init__(self, start: int, stop: int, world: World) -> None:
        self._range = range(start * world.size + world.rank, stop * world.size, world.size)

    def __iter__(self) -> Iterator[int]:
        return iter(self._range)

    def __len__(self) -> int:
        return len(self._range)


def _one_thread(worker: int) -> None:
    """Give a worker one core, since it runs beside the threads that train, and let it outlive signals."""
    import cv2  # noqa: PLC0415

    del worker
    outlive_signals()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
