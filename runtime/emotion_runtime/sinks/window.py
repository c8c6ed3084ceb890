"""Show the annotated frames on the screen."""

import os
import sys

import cv2

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks.draw import Annotator, Render
from emotion_runtime.types import EmotionEvent, Frame

_ESCAPE = 27


class WindowSink:
    """Shows annotated frames, in one window per source. `q`, Escape or closing a window ends the run.

    Args:
        render: Turns a frame (H, W, 3) uint8 BGR and its event into the image to show. None: an
            `Annotator`.

    Raises:
        EmotionError: There is no display. `write` raises it if OpenCV was built without windows.
    """

    def __init__(self, render: Render | None = None) -> None:
        self._render = render or Annotator()
        self._titles: set[str] = set()
        # Checked first: without a display Qt ends the whole process instead of raising.
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise EmotionError("no window can be shown without a display (DISPLAY is not set); use --no-show")

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Show one frame. Return False if the viewer pressed `q` or Escape, or closed the window."""
        title = f"emotion-runtime: {frame.source}"
        if title in self._titles and cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            return False
        try:
            cv2.imshow(title, self._render(frame.image, event))
        except cv2.error as error:
            raise EmotionError(
                "the installed OpenCV cannot show windows; pip install opencv-python (not -headless), or "
                "use --no-show"
            ) from error
        self._titles.add(title)
        return cv2.waitKey(1) & 0xFF not in (ord("q"), _ESCAPE)

    def close(self) -> None:
        """Close the windows."""
        for title in self._titles:
            cv2.destroyWindow(title)
        self._titles = set()
