"""Process videos in this process, in several, or on a Ray cluster, with the same results."""

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from emotion_runtime.errors import EmotionError

RAY_RETRIES = 3  # of a video whose machine fails
_AGAIN = (
    "most often because memory ran out: run the same command with fewer --workers; finished videos are kept"
)

T = TypeVar("T")


def run_local(jobs: Sequence[T], work: Callable[[T], None], *, workers: int) -> Iterator[None]:
    """Run every job in one of `workers` processes; yields after each.

    Raises:
        EmotionError: A worker was killed, or `work` raised one.
    """
    if workers == 1:
        for job in jobs:
            work(job)
            yield
        return
    # Spawn: forked children of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_exit_with_parent)
    try:
        for future in as_completed([pool.submit(_error_of, work, job) for job in jobs]):
            _raise(future.result())
            yield
    except BrokenProcessPool as error:
        raise EmotionError(f"a worker was killed, {_AGAIN}") from error
    finally:
        pool.shutdown(cancel_futures=True)


def run_ray(
    jobs: Sequence[T], work: Callable[[T], None], *, workers: int, address: str | None
) -> Iterator[None]:
    """Run every job as a Ray task; yields after each.

    Args:
        jobs: Arguments of `work`.
        work: Processes one job.
        workers: Number of processes, if Ray is started here.
        address: Of a cluster whose machines see the files under the same paths; None starts Ray here.

    Raises:
        EmotionError: Ray is missing or cannot be reached, a task failed too often, or `work` raised one.
    """
    try:
        import ray  # noqa: PLC0415 - optional
    except ModuleNotFoundError as error:
        raise EmotionError("--engine ray needs Ray: pip install ray, or use --engine local") from error
    place: dict[str, Any] = (
        {"address": address} if address else {"num_cpus": workers, "include_dashboard": False}
    )
    try:
        ray.init(**place, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EmotionError(
            f"--address {address}: Ray cannot be reached ({reason}); is `ray start --head` running there?"
        ) from error
    try:
        task: Any = ray.remote(num_cpus=1, max_retries=RAY_RETRIES)(_error_of)
        waiting = [task.remote(work, job) for job in jobs]
        while waiting:
            done, waiting = ray.wait(waiting)
            _raise(ray.get(done[0]))
            yield
    except (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.OutOfMemoryError,
        ray.exceptions.NodeDiedError,
    ) as error:
        raise EmotionError(f"a task was lost {RAY_RETRIES + 1} times, {_AGAIN}") from error
    finally:
        ray.shutdown()


def _error_of(work: Callable[[T], None], job: T) -> str | None:
    """Run a job and return its error message, if any: exceptions of other processes lose their type."""
    try:
        work(job)
    except EmotionError as error:
        return str(error)
    return None


def _raise(message: str | None) -> None:
    if message is not None:
        raise EmotionError(message)


def _exit_with_parent() -> None:
    """Make a worker process end when the main process is killed, by whatever signal."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
