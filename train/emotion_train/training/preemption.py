"""End a run after its step when a batch system asks for it, with a checkpoint to go on from.

Slurm and others send SIGTERM some time before they kill a job, or SIGUSR1 if asked to (`--signal=USR1@120`).
Python notes a signal when the main thread returns from a call. A process that waits for another one therefore
notes it when that one arrives; then all exchange what they noted, and end before the same step. If the other
one hangs, `stalls` ends the run, or the batch system does.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
WORKER_GRACE = 30.0  # seconds that a worker works on after SIGTERM


@dataclass(slots=True)
class Preemption:
    """Whether the run was asked to end.

    Attributes:
        signal: Name of the first signal that asked for it; None so far.
    """

    signal: str | None = None


@contextmanager
def noting_signals() -> Iterator[Preemption]:
    """Note `SIGNALS` instead of ending the process. Python allows this in the main thread only."""
    preemption = Preemption()
    if threading.current_thread() is not threading.main_thread():
        yield preemption
        return

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        preemption.signal = preemption.signal or signal.Signals(number).name

    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield preemption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def outlive_signals() -> None:
    """Let a data worker work on for a while after a signal.

    Batch systems signal every process of a job. Without its workers, a run could not take its last step. The
    worker ends in the end, because `multiprocessing` also ends workers by SIGTERM, and waits for them.
    """

    def end_later(number: int, frame: FrameType | None) -> None:
        del number, frame
        timer = threading.Timer(WORKER_GRACE, os._exit, (0,))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, end_later)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # they were blocked in the process that forked it


def start_shielded_forkserver() -> None:
    """Start the process that forks data workers so that `SIGNALS` do not end it; see `outlive_signals`."""
    # First of the two, because it unblocks SIGTERM when it starts.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        forkserver.ensure_running()  # child processes inherit the blocked signals
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
