"""Progress of a TensorRT build, and how Ctrl-C stops it."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from emotion_runtime.tensorrt.api import TensorRT

_PERCENT = 100


class Progress:
    """Progress of a build, as TensorRT reports it. Its methods have the names of `IProgressMonitor`.

    Args:
        bar: A tqdm progress bar with a total of 100.

    Attributes:
        stopped: Whether the user stopped the build.
    """

    def __init__(self, bar: Any) -> None:
        super().__init__()  # of TensorRT
        self._bar = bar
        self._phases: dict[str, tuple[str | None, int, int]] = {}  # parent, steps and finished steps
        self.stopped = False

    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
        """Add a phase, which is part of a step of its parent."""
        self._phases[phase_name] = parent_phase, max(num_steps, 1), 0

    def phase_finish(self, phase_name: str) -> None:
        """Remove a phase."""
        self._phases.pop(phase_name, None)

    def step_complete(self, phase_name: str, step: int) -> bool:
        """Record that a step of a phase, counted from 0, has finished; return whether to go on."""
        if phase_name in self._phases:
            parent, steps, _ = self._phases[phase_name]
            self._phases[phase_name] = parent, steps, step + 1
        self._bar.update(max(0, int(_PERCENT * self.fraction()) - self._bar.n))
        return not self.stopped

    def fraction(self) -> float:
        """Return the finished fraction of the build, in [0, 1]."""
        phases = self._phases.copy()  # TensorRT may report from several threads

        def done(name: str | None) -> float:
            """Return the finished fraction of a phase, including the phases inside it."""
            inner = max((done(n) for n, (parent, _, _) in phases.items() if parent == name), default=0.0)
            if name is None:
                return inner
            _, steps, finished = phases[name]
            return min(1.0, (finished + inner) / steps)

        return done(None)


@contextmanager
def show_progress(trt: TensorRT, name: str) -> Iterator[Any]:
    """Yield a monitor for the build of a graph. It shows a progress bar on a terminal.

    Raises:
        KeyboardInterrupt: The user pressed Ctrl-C; raised when TensorRT has ended the build.
    """
    with tqdm(total=_PERCENT, desc=f"building {name}", unit="%", disable=None, leave=False) as bar:
        # The classes of TensorRT are known only at run time.
        monitor = type("Monitor", (Progress, trt.IProgressMonitor), {})(bar)
        with _stop_on_interrupt(monitor):
            yield monitor
    if monitor.stopped:
        raise KeyboardInterrupt


@contextmanager
def _stop_on_interrupt(progress: Progress) -> Iterator[None]:
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
