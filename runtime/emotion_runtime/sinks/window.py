"""Show the annotated frames on the screen."""

import math
import os
import re
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import cv2

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks.draw import Annotator, Render
from emotion_runtime.sinks.notice import Notices
from emotion_runtime.sinks.paint import Image
from emotion_runtime.types import EmotionEvent, Frame, StatusLine

_ESCAPE = 27
_TILE = (960, 600)  # pixels between the corners of windows, at most
_SCREEN = (1920, 1080)  # pixels that windows are spread over; OpenCV does not tell the size of the screen
_X11_PORT = 6000  # of display 0
_TIMEOUT = 2.0  # seconds to wait for a display on another machine


class WindowSink:
    """Shows annotated frames, in one window per source.

    Closing a window ends the view of its source. `q` or Escape, or closing the last window, ends the run.

    Args:
        render: Turns a frame (H, W, 3) uint8 BGR and its event into the image to show. None: an
            `Annotator`.
        windows: How many windows there will be; they are laid out side by side.

    Raises:
        EmotionError: There is no display. `write` raises it if OpenCV was built without windows, or the
            display is gone.
    """

    def __init__(self, render: Render | None = None, *, windows: int = 1) -> None:
        self._render = render or Annotator()
        self._windows = windows
        self._notices = Notices()
        self._open: set[str] = set()  # titles
        self._closed: set[str] = set()
        # Checked first: without a display Qt ends the whole process instead of raising.
        problem = display_problem()
        self._is_local = os.environ.get("DISPLAY", "").startswith(":")
        if problem is not None:
            raise EmotionError(f"no window can be shown: {problem}; use --no-show")

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Show one frame. Return False if the viewer pressed `q` or Escape, or closed the last window."""

        def image() -> Image:
            shown = self._render(frame.image, event)
            self._notices.see(replace(frame, image=shown))
            return shown

        return self._show(frame.source, image)

    def write_status(self, line: StatusLine) -> bool:
        """Show that no image comes from a source. Return False as `write` does."""
        frame = self._notices.draw(line)
        return True if frame is None else self._show(frame.source, lambda: frame.image)

    def end(self, source: str) -> None:
        """Close the window of a source that has ended: each file of a folder has one."""
        title = _title(source)
        if title in self._open:
            self._open.remove(title)
            with suppress(cv2.error):  # the viewer has closed it
                cv2.destroyWindow(title)

    def idle(self) -> bool:
        """Notice keys and closed windows while no frame comes. Return False as `write` does."""
        return not self._open or self._wanted()

    def _wanted(self) -> bool:
        return cv2.waitKey(1) & 0xFF not in (ord("q"), _ESCAPE)

    def _show(self, source: str, image: Callable[[], Image]) -> bool:
        """Show an image in the window of a source."""
        title = _title(source)
        if title in self._closed:
            return True
        # Asked again, since Qt ends the process when its display is gone; over a network that would be slow.
        problem = display_problem() if self._is_local else None
        if problem is not None:
            self._open.clear()
            raise EmotionError(f"the window cannot be shown any longer: {problem}")
        if title in self._open and cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            self._open.remove(title)
            self._closed.add(title)
            return bool(self._open)
        try:
            if title not in self._open:
                self._create(title)
            cv2.imshow(title, image())
        except cv2.error as error:
            raise EmotionError(
                "the installed OpenCV cannot show windows; pip install opencv-python (not -headless), or "
                "use --no-show"
            ) from error
        return self._wanted()

    def _create(self, title: str) -> None:
        cv2.namedWindow(title, cv2.WINDOW_AUTOSIZE)
        index = len(self._open | self._closed)
        self._open.add(title)
        if self._windows > 1:
            columns = math.ceil(math.sqrt(self._windows))
            step = [min(most, side // columns) for most, side in zip(_TILE, _SCREEN, strict=True)]
            cv2.moveWindow(title, index % columns * step[0], index // columns * step[1])

    def close(self) -> None:
        """Close the windows."""
        titles, self._open = self._open, set()
        for title in titles:
            cv2.destroyWindow(title)


def _title(source: str) -> str:
    return f"emotion-runtime: {source}".encode(errors="replace").decode()


def display_problem() -> str | None:
    """Return why no window can be shown on this machine; None if nothing is known to be in the way.

    A display that cannot be reached is left behind by `ssh -X`, tmux and containers.
    """
    if sys.platform in ("win32", "darwin"):
        return None
    wayland = os.environ.get("WAYLAND_DISPLAY")
    if wayland:
        folder = os.environ.get("XDG_RUNTIME_DIR", "")
        if _answers(str(Path(folder) / wayland)):
            return None
    display = os.environ.get("DISPLAY")
    if not display:
        if wayland:
            return f"the Wayland display {wayland} does not answer"
        return "there is no display (DISPLAY is not set)"
    return None if _x11_answers(display) else f"the display {display} (DISPLAY) does not answer"


def _x11_answers(display: str) -> bool:
    match = re.fullmatch(r"(?:(.*)/)?(.*):(\d+)(?:\.\d+)?", display)
    if match is None:
        # On macOS and some others it is the path of a socket.
        return _answers(display)
    protocol, host, number = match[1] or "", match[2], int(match[3])
    if not host or host == "unix" or protocol == "unix":
        path = f"/tmp/.X11-unix/X{number}"  # noqa: S108 - fixed by X11
        return _answers(path) or _answers(f"\0{path}")
    try:
        socket.create_connection((host.strip("[]"), _X11_PORT + number), _TIMEOUT).close()
    except OSError:
        return False
    return True


def _answers(path: str) -> bool:
    """Return whether something accepts connections at a local socket."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT)
            connection.connect(path)
    except OSError:
        return False
    return True
