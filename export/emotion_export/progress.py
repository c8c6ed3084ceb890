"""Progress of a TensorRT build, and how Ctrl-C stops it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from emotion_runtime.tensorrt.api import TensorRT

_PERCENT = 100


@dataclass
class Progress:
    """Progress of a build.

    Attributes:
        phases: Parent, number of steps and finished steps of each running phase, by name.
        stopped: Whether the user stopped the build.
    """

    phases: dict[str, tuple[str | None, int, int]] = field(default_factory=dict)
    stopped: bool = False

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Add a phase."""
        self.phases[name] = parent, max(steps, 1), 0

    def step(self, name: str, step: int) -> None:
        """Record that a step of a phase, counted from 0, has finished."""
        if name in self.phases:
            parent, steps, _ = self.phases[name]
            self.phases[name] = parent, steps, step + 1

    def fraction(self) -> float:
        """Return the finished fraction of the build, in [0, 1]."""
        phases = self.phases.copy()  # TensorRT may report from several threads

        def done(name: str | None) -> float:
            """Return the finished fraction of a phase, including the phases inside it."""
            inner = max((done(n) for n, (parent, _, _) in phases.items() if parent == name), default=0.0)
            if name is None:
                return inner
            _, steps, finished = phases[name]
            return min(1.0, (finished + inner) / steps)

        return done(None)


def make_monitor(trt: TensorRT, bar: Any) -> Any:
    """Return a TensorRT progress monitor, which TensorRT asks after each step whether to go on.

    Args:
        trt: The TensorRT module.
        bar: A tqdm progress bar with a total of 100.

    Returns:
        A monitor whose attribute `progress` is the `Progress` of the build.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]  # the module is a variable
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.progress = Progress()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.progress.start(phase_name, parent_phase, num_steps)

        def phase_finish(self, phase_name: str) -> None:
            self.progress.phases.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self.progress.step(phase_name, step)
            bar.update(max(0, int(_PERCENT * self.progress.fraction()) - bar.n))
            return not self.progress.stopped

    return Monitor()


@contextmanager
def stop_on_interrupt(progress: Progress) -> Iterator[None]:
    """Make Ctrl-C stop a build at its next step; a second Ctrl-C ends the program at once.

    Otherwise Python would raise KeyboardInterrupt inside TensorRT's callback, where it is lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return

    def stop(_signal: int, _frame: object) -> None:
        progress.stopped = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
