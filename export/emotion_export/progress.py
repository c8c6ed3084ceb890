"""How far a build of TensorRT is, and how Ctrl-C stops it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

_PERCENT = 100


@dataclass
class Progress:
    """How far a build is. phases: parent, number of steps and steps done, by name. stopped: by the user."""

    phases: dict[str, tuple[str | None, int, int]] = field(default_factory=dict)
    stopped: bool = False

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins."""
        self.phases[name] = parent, max(steps, 1), 0

    def step(self, name: str, step: int) -> None:
        """A step of a phase, counted from 0, has ended."""
        if name in self.phases:
            parent, steps, _ = self.phases[name]
            self.phases[name] = parent, steps, step + 1

    def fraction(self) -> float:
        """Part of the build that is done."""
        phases = self.phases.copy()  # TensorRT may work, and report, in several threads

        def done(name: str | None) -> float:
            """Of a phase, with the phases inside of it."""
            inner = max((done(n) for n, (parent, _, _) in phases.items() if parent == name), default=0.0)
            if name is None:
                return inner
            _, steps, finished = phases[name]
            return min(1.0, (finished + inner) / steps)

        return done(None)


def make_monitor(trt: ModuleType, bar: Any) -> Any:
    """TensorRT's view of a `Progress`, which it asks after each step whether to go on.

    bar: of tqdm, with a total of 100. The result has the `Progress` as its attribute `progress`.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]  # its module is a variable
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
    """Ctrl-C stops a build at its next step; a second one ends the program at once.

    Left alone, Python would raise KeyboardInterrupt inside of TensorRT's callback, where it is lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return

    def stop(_number: int, _frame: object) -> None:
        progress.stopped = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
