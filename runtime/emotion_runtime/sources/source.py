"""What a run sees of every source."""

from collections.abc import Callable, Generator, Iterator
from threading import Event
from types import TracebackType

from emotion_runtime.errors import SourceBroken
from emotion_runtime.types import Frame, SourceStatus, StatusLine


class Source:
    """Frames in order of time. As a context manager it releases the device or file at the end.

    This class is for files, which are read frame by frame by iterating. `live` ones also have frames to take
    without waiting, see `PolledSource`; here there are none.

    Args:
        frames: The frames.
        name: Name of the source.
        stop: Is set by `stop`; whatever `frames` waits for ends then.

    Attributes:
        name: Name of the source. Of the frames of a folder, each file has its own.
        live: Frames come at their own pace: take them with `poll`.
        error: Why the source failed, once it is over; None: it did not.
    """

    live = False

    def __init__(
        self, frames: Generator[Frame, None, None], name: str = "", stop: Event | None = None
    ) -> None:
        self.name = name
        self.error: Exception | None = None
        self._source = frames
        self._frames = self._guarded(frames)
        self._stop = stop or Event()
        self._over = False

    def __iter__(self) -> Iterator[Frame]:
        """Return the frames until the source ends.

        Raises:
            SourceBroken: While iterating, after the last frame: the source failed.
        """
        return self._frames

    def __enter__(self) -> "Source":  # noqa: PYI034 - typing.Self needs Python 3.11
        """Return the source itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the source, see `close`."""
        self.close()

    @property
    def over(self) -> bool:
        """Whether no frame will come any more."""
        return self._over

    @property
    def status(self) -> SourceStatus | None:
        """The latest status; None for sources that have none, such as files."""
        return None

    def poll(self) -> Frame | None:
        """Return the newest frame that was not taken yet, without waiting; None if there is none now."""
        return None

    def take_statuses(self) -> list[StatusLine]:
        """Return the changes of the status since the last call."""
        return []

    def on_change(self, callback: Callable[[], None]) -> None:
        """Set what is called, in a thread of the source, whenever a frame or a status is there or it is over.

        Args:
            callback: Returns quickly, and raises nothing.
        """

    def stop(self) -> None:
        """Make the source end soon, whatever it waits for; may be called by a signal handler or a thread."""
        self._stop.set()

    def close(self) -> None:
        """Release the device or file; safe to call twice."""
        self._frames.close()
        self._source.close()  # if no frame was taken, nothing else closes it
        self._over = True

    def _guarded(self, frames: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
        """Yield frames; an error of the system becomes one of this source, which leaves the others alone."""
        try:
            yield from frames
        except SourceBroken as error:
            self.error = error
            raise
        except OSError as error:
            broken = SourceBroken(
                f"source {self.name} failed: {error.strerror or error}; check its device or disk"
            )
            self.error = broken
            raise broken from error
        finally:
            self._over = True
