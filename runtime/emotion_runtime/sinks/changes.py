"""Leave out events in which nothing that matters has changed."""

from pathlib import Path

from emotion_runtime.sinks.base import FinishingSink, IdleSink, Sink, StatusSink
from emotion_runtime.types import EmotionEvent, Frame, StatusLine

KEEP_ALIVE = 60.0  # seconds after which a source has an event again, so that a reader sees that it is watched


class Changes:
    """Tells whether the people of an event, their states or their labels differ from the last one that did.

    Args:
        keep_alive: Seconds of media time after which an event of a source matters in any case.
    """

    def __init__(self, keep_alive: float = KEEP_ALIVE) -> None:
        self._keep_alive = keep_alive
        self._last: dict[str, tuple[float, object]] = {}  # time and content of the last event, by source

    def matter(self, frame: Frame, event: EmotionEvent) -> bool:
        """Return whether something has changed; always for a photo."""
        # Not a set: people without ids may look the same.
        content = [(person.id, person.state, person.top, person.why) for person in event.persons]
        last = self._last.get(event.source)
        if (
            last is not None
            and not frame.still
            and last[1] == content
            and event.t - last[0] < self._keep_alive
        ):
            return False
        self._last[event.source] = event.t, content
        return True

    def forget(self, source: str) -> None:
        """Let the next event of a source matter."""
        self._last.pop(source, None)


class ChangesSink:
    """Passes on an event if its people, their states or their labels differ from the last one of the source.

    At least one event per source comes every `KEEP_ALIVE` seconds, and one after each change of the status of
    the source. Photos are always passed on.

    Args:
        sink: Gets the events.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._changes = Changes()

    @property
    def files(self) -> list[Path]:
        """The files of the sink."""
        files: list[Path] = getattr(self._sink, "files", [])
        return files

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Take one frame, see `Sink.write`."""
        return not self._changes.matter(frame, event) or self._sink.write(frame, event)

    def write_status(self, line: StatusLine) -> bool:
        """Take a change of the status of a source."""
        self._changes.forget(line.source)
        return self._sink.write_status(line) if isinstance(self._sink, StatusSink) else True

    def idle(self) -> bool:
        """Let the sink do what it has to do while no frame comes. Return False as `write` does."""
        return not isinstance(self._sink, IdleSink) or self._sink.idle()

    def finish(self, source: str) -> None:
        """Finish the file of a source, if the sink has one for each source."""
        self._changes.forget(source)
        if isinstance(self._sink, FinishingSink):
            self._sink.finish(source)

    def close(self) -> None:
        """Close the sink."""
        self._sink.close()
