"""Read an iterator in a thread, so that waiting for its next frame does not hold up anything else."""

import threading
from collections.abc import Callable, Iterator

from emotion_runtime.types import Frame

_JOIN = 0.3  # seconds to wait for a thread that reads; one that hangs is left behind, since it is a daemon


class ReadAhead:
    """Reads one frame, and the next one when it is taken.

    Args:
        frames: The frames.
        name: Name of the thread.
        changed: Is called in the thread when a frame, the end or an error is there.
    """

    def __init__(self, frames: Iterator[Frame], name: str, changed: Callable[[], None]) -> None:
        self._frames, self._changed = frames, changed
        self._wanted = threading.Event()
        self._there = self._closed = False
        self._frame: Frame | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"reader {name}", daemon=True)
        self._wanted.set()
        self._thread.start()

    def ready(self) -> bool:
        """Return whether the next frame, or the end, is there."""
        return self._there

    def take(self) -> Frame | None:
        """Return the frame that was read; None at the end. The next one is read meanwhile.

        Errors of the source are raised here.
        """
        self._there = False
        if self._error is not None:
            raise self._error
        if self._frame is not None:
            frame, self._frame = self._frame, None
            self._wanted.set()
            return frame
        return None

    def close(self) -> bool:
        """End the thread. Return whether it ended."""
        self._closed = True
        self._wanted.set()
        self._thread.join(_JOIN)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closed:
                return
            try:
                self._frame = next(self._frames, None)
            except BaseException as error:  # noqa: BLE001 - raised again in the loop's thread
                self._error = error
            self._there = True
            self._changed()
