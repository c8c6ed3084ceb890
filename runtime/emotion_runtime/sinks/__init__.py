"""Sinks of events: the interface, and the function that opens those of a run."""

from collections.abc import Iterator
from typing import Protocol

from emotion_runtime.types import EmotionEvent, Frame


class Sink(Protocol):
    """Takes every processed frame with its event, in order."""

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Take one frame. Return False if the run should end, since the window or pipe was closed."""
        ...

    def close(self) -> None:
        """Finish and flush; safe to call twice."""
        ...


def open_sinks(*, jsonl: str | None = None, record: str | None = None, show: bool = False) -> Iterator[Sink]:
    """Open sinks one after the other, so that a caller can close the first ones if a later one fails.

    Args:
        jsonl: File for JSON lines, or "-" for standard output.
        record: File for the annotated video.
        show: Whether to show the annotated video in a window.

    Raises:
        EmotionError: A file cannot be written, or no window can be shown.
    """
    # Each sink is imported when it is opened, to keep the start-up time short.
    if jsonl is not None:
        from emotion_runtime.sinks.jsonl import JsonlSink  # noqa: PLC0415

        yield JsonlSink(jsonl)
    if record is None and not show:
        return
    from emotion_runtime.sinks.draw import Annotator  # noqa: PLC0415

    annotate = Annotator()  # shared, so that each frame is drawn once
    if record is not None:
        from emotion_runtime.sinks.video import VideoSink  # noqa: PLC0415

        yield VideoSink(record, annotate)
    if show:
        from emotion_runtime.sinks.window import WindowSink  # noqa: PLC0415

        yield WindowSink(annotate)
