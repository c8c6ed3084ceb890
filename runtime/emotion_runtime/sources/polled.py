"""Real time: a thread captures frames, and the consumer takes the newest; the others count as dropped."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import replace

from emotion_runtime.errors import SourceBroken
from emotion_runtime.leftovers import close_at_exit
from emotion_runtime.sources.source import Source
from emotion_runtime.types import Frame

LOOK = 0.1  # seconds between two looks at a `stop` event that a signal handler or another thread may set
_TAKEN = 0.01  # seconds between two looks whether a photo was taken
_JOIN = 0.5  # seconds to wait for a thread; if it hangs in a driver it is left behind, since it is a daemon


class PolledSource(Source):
    """The newest frame of a source, without a queue.

    Subclasses start a thread that calls `_put` for every frame and `_end` once, both while it holds
    `_lock`, and `_changed` after each of them, when it does not.

    Args:
        name: Name of the source.
        stop: Ends the source. None: only the method `stop` does.
    """

    live = True

    def __init__(self, name: str, stop: threading.Event | None = None) -> None:
        super().__init__(self._wait_for_frames(), name, stop)
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._newest: Frame | None = None
        self._dropped = 0
        self._ended = False
        self._callback: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None

    @property
    def over(self) -> bool:
        """Whether no frame will come any more."""
        return self._stop.is_set() or (self._ended and self._newest is None)

    def poll(self) -> Frame | None:
        """Return the newest frame that was not taken yet, without waiting; None if there is none now."""
        with self._lock:
            frame, self._newest = self._newest, None
            if frame is None or self._stop.is_set():
                return None
            return replace(frame, dropped=self._dropped)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Set what is called, in a thread of the source, when a frame or a status is there, or it is over.

        Args:
            callback: Returns quickly, and raises nothing.
        """
        self._callback = callback
        callback()  # for what was there before

    def close(self) -> None:
        """Release the device or file, within a second even if it hangs; safe to call twice."""
        self.stop()
        if self._thread is not None:
            self._thread.join(_JOIN)
        with suppress(ValueError):  # another thread iterates: it ends soon
            self._frames.close()

    def _start(self, run: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=run, name=f"source {self.name}", daemon=True)
        self._thread.start()
        close_at_exit(self)

    def _put(self, frame: Frame) -> None:
        self._dropped += self._newest is not None
        self._newest = frame
        self._arrived.notify_all()

    def _end(self, error: Exception | None = None) -> None:
        self._ended, self.error = True, error
        self._arrived.notify_all()

    def _changed(self) -> None:
        if self._callback is not None:
            self._callback()

    def _wait_for_frames(self) -> Generator[Frame, None, None]:
        while not self.over:
            with self._lock:
                self._arrived.wait_for(lambda: self._newest is not None or self._ended, LOOK)
            frame = self.poll()
            if frame is not None:
                yield frame
        if self.error is not None:
            raise self.error


class PacedSource(PolledSource):
    """A file or the demo, played at its own speed; `Frame.captured` is the time of its turn.

    A photo has no speed: what follows it waits until it was taken.

    Args:
        frames: The frames, read in a thread of the source.
        name: Name of the source.
        stop: Ends the source. None: only the method `stop` does.
    """

    def __init__(
        self, frames: Generator[Frame, None, None], name: str, stop: threading.Event | None = None
    ) -> None:
        super().__init__(name, stop)
        self._start(lambda: self._play(frames))

    def _wait_for_photo(self) -> None:
        """Wait until a photo that is the newest frame was taken."""
        while self._newest is not None and self._newest.still and not self._stop.wait(_TAKEN):
            pass

    def _play(self, frames: Generator[Frame, None, None]) -> None:
        error: Exception | None = None
        start, name = 0.0, None
        try:
            for frame in frames:
                self._wait_for_photo()
                now = time.monotonic()
                if frame.source != name:  # the next file of a folder
                    start, name = now - frame.t, frame.source
                if self._stop.wait(max(0.0, start + frame.t - now)):
                    break
                with self._lock:
                    self._put(replace(frame, captured=time.monotonic()))
                self._changed()
        except OSError as caught:
            error = SourceBroken(
                f"source {self.name} failed: {caught.strerror or caught}; check its device or disk"
            )
        except Exception as caught:  # noqa: BLE001 - raised again in the consumer's thread
            error = caught
        finally:
            with suppress(Exception):
                frames.close()
            with self._lock:
                self._end(error)
            self._changed()
