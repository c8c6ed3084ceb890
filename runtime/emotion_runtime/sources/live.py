"""Real time: a thread captures frames, and the consumer gets the newest; the others count as dropped."""

import threading
import time
from collections.abc import Generator
from dataclasses import replace

from emotion_runtime.errors import SourceBroken
from emotion_runtime.types import Frame

SILENCE = 10.0  # seconds without a frame after which a source counts as failed; a camera's read can hang
_JOIN = 0.5  # seconds to wait for the thread; if it hangs in a driver it is left behind, since it is a daemon
_LOOK = 0.2  # seconds between two looks at `stop`


class _Slot:
    """Holds the newest frame, which the capture thread stores and the consumer takes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._dropped = 0
        self._ended = False
        self._error: Exception | None = None
        self._stopped = False

    def fill(self, frames: Generator[Frame, None, None]) -> None:
        """Store frames until they end or `stop` is called; runs in the capture thread."""
        error: Exception | None = None
        try:
            for frame in frames:
                if not self._put(frame):
                    break
        except Exception as caught:  # noqa: BLE001 - raised again in the consumer's thread
            error = caught
        finally:
            frames.close()
            with self._changed:
                self._ended, self._error = True, error
                self._changed.notify_all()

    def _put(self, frame: Frame) -> bool:
        with self._changed:
            if self._frame is not None:
                self._dropped += 1
            self._frame = frame
            self._changed.notify_all()
            return not self._stopped

    def take(self, timeout: float | None, stop: threading.Event) -> Frame | None:
        """Wait for the newest frame and return it; return None at the end.

        Errors of the capture thread are raised here, after its last frame.

        Args:
            timeout: Seconds to wait for a frame. None: without limit.
            stop: Ends the wait, whatever the capture thread does.

        Raises:
            TimeoutError: No frame arrived in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._changed.wait_for(lambda: self._frame is not None or self._ended, _LOOK):
                if stop.is_set():
                    return None
                if deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError
            if self._frame is not None:
                frame, self._frame = self._frame, None
                return replace(frame, dropped=self._dropped)
            if self._error is not None:
                raise self._error
            return None

    def stop(self) -> None:
        """Make `fill` stop at its next frame."""
        with self._changed:
            self._stopped = True


def newest(
    frames: Generator[Frame, None, None],
    *,
    name: str,
    silence: float | None = SILENCE,
    stop: threading.Event | None = None,
) -> Generator[Frame, None, None]:
    """Yield the newest frame each time, and none twice. `Frame.dropped` counts the frames that were skipped.

    Args:
        frames: Consumed in a thread of its own. Its errors are raised here.
        name: Name of the source, for messages.
        silence: Seconds without a frame after which the source counts as failed. None: wait without limit.
        stop: Ends the frames, whatever the thread waits for.

    Raises:
        SourceBroken: No frame arrived for `silence` seconds.
    """
    slot = _Slot()
    stop = stop or threading.Event()
    thread = threading.Thread(target=slot.fill, args=(frames,), name=f"capture {name}", daemon=True)
    thread.start()
    try:
        while (frame := slot.take(silence, stop)) is not None:
            yield frame
    except TimeoutError:
        raise SourceBroken(
            f"source {name}: no frame for {silence:g} s; check that it is connected and that no other "
            "program uses it"
        ) from None
    finally:
        slot.stop()
        thread.join(_JOIN)


def paced(
    frames: Generator[Frame, None, None], stop: threading.Event | None = None
) -> Generator[Frame, None, None]:
    """Yield frames at the times given by their media time, counted from the first; `captured` is set.

    Args:
        frames: The frames.
        stop: Ends the frames, also while waiting for the time of the next one.
    """
    stop = stop or threading.Event()
    start: float | None = None
    for frame in frames:
        now = time.monotonic()
        if start is None:
            start = now - frame.t
        if stop.wait(max(0.0, start + frame.t - now)):
            return
        yield replace(frame, captured=time.monotonic())
