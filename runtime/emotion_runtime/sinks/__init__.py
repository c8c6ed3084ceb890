"""Where events go: one small class each behind one Protocol."""

from typing import Protocol

from emotion_runtime.types import EmotionEvent, Frame


class Sink(Protocol):
    """Takes every processed frame with its event, in order."""

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Take one frame. False: the viewer has gone (window closed, pipe shut), the run should end."""
        ...

    def close(self) -> None:
        """Finish and flush; safe to call twice."""
        ...
