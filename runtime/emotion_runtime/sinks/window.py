"""The annotated picture on the screen."""

import os
import sys
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks.draw import draw
from emotion_runtime.types import EmotionEvent, Frame

Image = NDArray[np.uint8]
_ESCAPE = 27


class WindowSink:
    """Shows what `render` draws, one window a source. `q`, Escape or closing a window ends the run.

    render: from (H, W, 3) uint8 BGR and its event to the picture to show.

    Raises:
        EmotionError: there is no display, or OpenCV was built without windows.

    """

    def __init__(self, render: Callable[[Image, EmotionEvent], Image] = draw) -> None:
        self._render = render
        self._titles: set[str] = set()
        # Asked first: without a display Qt ends the whole process instead of raising.
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise EmotionError("no display (DISPLAY is not set), so no window can be shown; use --no-show")

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Show one frame. False: the viewer pressed `q` or Escape, or closed the window."""
        title = f"emotion-runtime: {frame.source}"
        if title in self._titles and cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            return False
        try:
            cv2.imshow(title, self._render(frame.image, event))
        except cv2.error as error:
            raise EmotionError(
                "this OpenCV cannot show windows; pip install opencv-python (not -headless), or use --no-show"
            ) from error
        self._titles.add(title)
        return cv2.waitKey(1) & 0xFF not in (ord("q"), _ESCAPE)

    def close(self) -> None:
        """Close the windows."""
        for title in self._titles:
            cv2.destroyWindow(title)
        self._titles = set()
