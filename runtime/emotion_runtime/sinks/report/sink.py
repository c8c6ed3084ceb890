"""Write a page about the run when it ends."""

from pathlib import Path

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import write_atomically
from emotion_runtime.sinks.byte_output import open_locked
from emotion_runtime.sinks.outputs import next_segment, segment_name
from emotion_runtime.sinks.report.page import page
from emotion_runtime.sinks.report.session import Session
from emotion_runtime.types import EmotionEvent, Frame, RunLine, StatusLine

_PLACEHOLDER = (
    b"<!doctype html><title>Emotion recognition runs</title><p>This page is written when the run ends.\n"
)


class ReportSink:
    """Writes one self-contained page, see `emotion_runtime.sinks.report`. It appears when the run ends.

    Until then a new file says so; an existing file is left as it is.

    Args:
        path: The file.
        run: What made the events. None: not known.
        keep: Whether to leave an existing file alone, and to write OUT-0002.html, OUT-0003.html and so on.

    Raises:
        EmotionError: The file cannot be written, or another run is going to write it. `close` raises it, too.
    """

    def __init__(self, path: str, *, run: RunLine | None = None, keep: bool = False) -> None:
        self._path = Path(path)
        if keep and self._path.exists():
            self._path = segment_name(self._path, next_segment(self._path))
        self._session: Session | None = Session(run)
        try:
            self._lock = open_locked(self._path, f"report {self._path}")
            if self._path.stat().st_size == 0:
                self._lock.write(_PLACEHOLDER)
                self._lock.flush()
        except OSError as error:
            raise EmotionError(
                f"report {self._path} cannot be written ({error.strerror}); give a file in a folder that you "
                "can write to"
            ) from error

    @property
    def files(self) -> list[Path]:
        """The file."""
        return [self._path]

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Take one frame. Always returns True."""
        if self._session is not None:
            self._session.add(event, still=frame.still)
        return True

    def write_status(self, line: StatusLine) -> bool:
        """Take a change of the status of a source. Always returns True."""
        if self._session is not None:
            self._session.add_status(line)
        return True

    def close(self) -> None:
        """Write the page. Safe to call twice.

        Raises:
            EmotionError: It cannot be written.
        """
        session, self._session = self._session, None
        if session is None:
            return
        try:
            write_atomically(self._path, page(session).encode("utf-8", "replace"))
        finally:
            self._lock.close()
