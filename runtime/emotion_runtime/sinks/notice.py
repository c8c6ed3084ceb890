"""Say on the newest image of a camera or stream that no other comes, and since when."""

from dataclasses import replace

import numpy as np

from emotion_runtime.sinks import paint, text
from emotion_runtime.sinks.layout import Rect
from emotion_runtime.sinks.paint import Image
from emotion_runtime.sinks.palette import INK, PAPER
from emotion_runtime.types import Frame, SourceStatus, StatusLine

_WORDS: dict[SourceStatus, str] = {
    "connecting": "connecting",
    "lost": "no signal since",
    "frozen": "the image is frozen since",
    "paused": "paused since",
}
_DARK = 0.45  # brightness of an image behind a notice
_EMPTY = (360, 640)  # height and width of the image of a source that never gave one


class Notices:
    """Draws notices. It keeps the newest frame of every live source."""

    def __init__(self) -> None:
        self._newest: dict[str, Frame] = {}
        self._shown: dict[str, SourceStatus] = {}

    def see(self, frame: Frame) -> None:
        """Take note of a frame, with its image as it is shown: what that hides, a notice does not show."""
        if frame.captured is not None:
            self._newest[frame.source] = frame
            self._shown.pop(frame.source, None)

    def draw(self, line: StatusLine) -> Frame | None:
        """Return the newest frame of a source with a notice, at the time of a change of its status.

        Args:
            line: The change.

        Returns:
            None if nothing is to be shown: frames come, the source has ended, or a notice of this kind is
            shown already. Without a frame of the source it is a dark image with `index` -1.
        """
        if line.status not in _WORDS:
            return None
        if self._shown.get(line.source) == line.status:
            return None
        self._shown[line.source] = line.status
        since = "" if line.status == "connecting" else f" {line.time.astimezone():%H:%M:%S}"
        caption = f"camera '{line.source}': {_WORDS[line.status]}{since}"
        newest = self._newest.get(line.source)
        if newest is None:
            image = np.full((*_EMPTY, 3), INK, np.uint8)
            return Frame(notice(image, caption), -1, 0.0, line.source, time=line.time)
        later = 0.0 if newest.time is None else max((line.time - newest.time).total_seconds(), 0.0)
        return replace(newest, image=notice(newest.image, caption), t=newest.t + later, time=line.time)


def notice(image: Image, caption: str) -> Image:
    """Return a darker copy of an image (H, W, 3) uint8 BGR with a line of text in its middle."""
    canvas = np.asarray(np.rint(image * np.float32(_DARK)), np.uint8)
    height, width = canvas.shape[:2]
    size = max(min(round(0.05 * height), round(0.9 * width / max(text.width(caption, 100), 1) * 100)), 8)
    pad = max(size // 3, 2)
    w, h = text.width(caption, size) + 2 * pad, text.line_height(size) + 2 * pad
    place = Rect(max((width - w) // 2, 0), max((height - h) // 2, 0), w, h)
    if w <= width and h <= height:  # a plate must lie inside the image
        paint.plate(canvas, place, INK, pad, 0.72)
    paint.write(canvas, caption, (place.x + pad, place.y + pad), size, PAPER)
    return canvas
