"""End a run at a signal within a second, with all results flushed, whatever its sources do.

The main thread looks for the request between two frames. It may be inside a library instead: the driver of a
camera that hangs, a pipe without data, a model that loads. Python runs no signal handler there. So a thread
watches for signals too, and ends the process itself if the main thread does not.
"""

import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

PATIENCE = 0.7  # seconds for the main thread to react
_SAME = 0.3  # seconds in which further signals are the same request: wrappers and terminals send several
_HANGUP = getattr(signal, "SIGHUP", None)
_NUMBERS = (signal.SIGINT, signal.SIGTERM) + (() if _HANGUP is None else (_HANGUP,))


class StopRequest:
    """The request to end a run, and what to do about it.

    Attributes:
        stopped: Set at the first signal; sources and sinks wait for it too.
    """

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._rescue: Callable[[], int] = lambda: 0
        self._callbacks: list[Callable[[], object]] = []
        self._writing = threading.Lock()
        self._kills = self._over = False

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Put off the end of the process while results are written or closed."""
        with self._writing:
            yield

    def rescue_with(self, rescue: Callable[[], int]) -> None:
        """Call a function if the main thread is stuck; in another thread.

        Args:
            rescue: Closes the results, and returns the exit status.
        """
        self._rescue = rescue

    def then(self, callback: Callable[[], object]) -> None:
        """Call a function at the first signal, in another thread, so that nothing waits any longer."""
        self._callbacks.append(callback)

    def finish(self) -> None:
        """Leave the end of the process to the main thread from now on."""
        self._over = True

    def handle(self, number: int, _frame: object) -> None:
        """Handle a signal in the main thread, as soon as that runs Python code."""
        if self._kills:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.stopped.set()

    def watch(self, signals: socket.socket) -> None:
        """Watch for signals in a thread of its own, until `signals` is closed.

        Args:
            signals: Delivers the number of each signal as one byte.
        """
        first = 0.0
        waits: float | None = None  # seconds
        while True:
            if not select.select([signals], [], [], waits)[0]:
                waits = None
                threading.Thread(target=self._end, name="rescue", daemon=True).start()
                continue
            numbers = signals.recv(64)
            if not numbers:
                return
            for number in numbers:
                if number not in _NUMBERS:
                    continue
                if not first:
                    first, waits = time.monotonic(), PATIENCE
                    self.stopped.set()
                    for callback in self._callbacks:
                        callback()
                elif number != _HANGUP and time.monotonic() - first > _SAME:
                    self._kill(number)

    def _kill(self, number: int) -> None:
        self._kills = True
        os.kill(os.getpid(), number)
        time.sleep(0.1)  # the handler kills the process now, unless the main thread is stuck
        os._exit(128 + number)

    def _end(self) -> None:
        with self._writing:
            if self._over:
                return
            status = 0
            try:
                status = self._rescue()
            finally:
                os._exit(status)


@contextmanager
def stop_at_signals() -> Iterator[StopRequest]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a request to stop; a second one kills the process.

    An exception at an arbitrary point could leave an incomplete line of JSON, or a video without its index.
    Where SIGHUP is ignored it stays so (`nohup`). A second SIGHUP does nothing: a terminal that closes may
    send several.
    """
    request = StopRequest()
    previous = {number: signal.getsignal(number) or signal.SIG_DFL for number in _NUMBERS}
    if _HANGUP is not None and previous[_HANGUP] == signal.SIG_IGN:
        del previous[_HANGUP]
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    with receiver, sender:
        before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        watcher = threading.Thread(target=request.watch, args=(receiver,), name="signals", daemon=True)
        watcher.start()
        for number in previous:
            signal.signal(number, request.handle)
        try:
            yield request
        finally:
            request.finish()
            for number, handler in previous.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)
            with suppress(OSError):
                sender.shutdown(socket.SHUT_WR)
            watcher.join(1)
