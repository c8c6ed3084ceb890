"""Real time: frames are captured in a thread, the newest one wins, the others are counted as dropped."""

import threading
import time
from collections.abc import Generator
from dataclasses import replace

from emotion_runtime.errors import SourceBroken
from emotion_runtime.types import Frame

SILENCE = 10.0  # seconds without a frame after which a source counts as broken; a camera's read can hang
_JOIN = 2.0  # seconds; a thread that hangs in a driver is left behind, it is a daemon


class _Slot:
    """Where the capture thread leaves the newest frame."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._dropped = 0
        self._ended = False
        self._error: Exception | None = None
        self._stopped = False

    def fill(self, frames: Generator[Frame, None, None]) -> None:
        """Run in the capture thread until the frames end or `stop` is called."""
        error: Exception | None = None
        try:
            for frame in frames:
                if not self._put(frame):
                    break
        except Exception as caught:  # noqa: BLE001 - any error is raised again in the consumer's thread
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

    def take(self, timeout: float | None) -> Frame | None:
        """The newest frame, waited for; None at the end.

        Raises:
            TimeoutError: no frame came. Whatever the capture thread raised, after its last frame.

        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._frame is not None or self._ended, timeout):
                raise TimeoutError
            if self._frame is not None:
                frame, self._frame = self._frame, None
                return replace(frame, dropped=self._dropped)
            if self._error is not None:
                raise self._error
            return None

    def stop(self) -> None:
        """Make `fill` end at its next frame."""
        with self._changed:
            self._stopped = True


def newest(
    frames: Generator[Frame, None, None], *, name: str, silence: float | None = SILENCE
) -> Generator[Frame, None, None]:
    """Frames as fast as they are taken: the newest one each time, never one twice.

    frames is run in a thread of its own. `Frame.dropped` counts those that were never taken.

    Raises:
        SourceBroken: no frame for `silence` seconds (None: any wait is right). Whatever `frames` raises is
            raised here.

    """
    slot = _Slot()
    thread = threading.Thread(target=slot.fill, args=(frames,), name=f"capture {name}", daemon=True)
    thread.start()
    try:
        while (frame := slot.take(silence)) is not None:
            yield frame
    except TimeoutError:
        raise SourceBroken(
            f"source {name}: no frame for {silence:g} s; check that it is connected and not in use elsewhere"
        ) from None
    finally:
        slot.stop()
        thread.join(_JOIN)


def paced(frames: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
    """Frames at the moments their media time asks for, counted from the first; `captured` is set."""
    start: float | None = None
    for frame in frames:
        now = time.monotonic()
        if start is None:
            start = now - frame.t
        time.sleep(max(0.0, start + frame.t - now))
        yield replace(frame, captured=time.monotonic())
