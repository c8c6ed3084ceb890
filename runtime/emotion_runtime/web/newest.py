"""The newest frame of every source with its event, for all viewers."""

import asyncio
import struct
import threading
from dataclasses import dataclass, field
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.sinks.draw import Annotator
from emotion_runtime.types import EmotionEvent, Frame

_LONGEST_SIDE = 1280  # pixels of an image that is sent
_QUALITY = 80  # of JPEG
_SOURCES = 32  # whose newest frames are kept: every photo of a folder is a source


class Painter:
    """Draws what was found into images; one image at a time, since labels stay where they were."""

    def __init__(self) -> None:
        self._annotator = Annotator()
        self._lock = threading.Lock()

    def __call__(self, image: NDArray[np.uint8], event: EmotionEvent) -> NDArray[np.uint8]:
        """Return an annotated copy of an image (H, W, 3) uint8 BGR."""
        with self._lock:
            return self._annotator(image, event)


@dataclass(slots=True)
class Shown:
    """A frame with its event; what is sent of it is made once, when the first viewer wants it.

    Attributes:
        index: Counts up with every frame of all sources.
        image: (H, W, 3) uint8 BGR, as it may leave the program.
        event: What was found in it.
        paint: Draws the event into the image.
    """

    index: int
    image: NDArray[np.uint8]
    event: EmotionEvent
    paint: Painter
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _annotated: bytes = b""
    _packet: bytes = b""

    @property
    def ready(self) -> bool:
        """Whether `packet` returns at once."""
        return bool(self._packet)

    def annotated(self) -> bytes:
        """Return the image as JPEG, with boxes and labels."""
        with self._lock:
            if not self._annotated:
                self._annotated = _jpeg(self.paint(self.image, self.event))
            return self._annotated

    def packet(self) -> bytes:
        """Return a message: length of the header in 4 bytes (big-endian), header as JSON, JPEG."""
        with self._lock:
            if not self._packet:
                height, width = self.image.shape[:2]
                header: dict[str, Any] = {"width": width, "height": height, "event": self.event.to_dict()}
                text = msgspec.json.encode(header)
                self._packet = struct.pack(">I", len(text)) + text + _jpeg(self.image)
            return self._packet


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    """Return an image (H, W, 3) uint8 BGR as JPEG, not larger than is sent."""
    height, width = image.shape[:2]
    scale = _LONGEST_SIDE / max(height, width)
    if scale < 1:
        size = max(round(scale * width), 1), max(round(scale * height), 1)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()


class Bell:
    """Wakes tasks of an event loop from other threads."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Wake all tasks that wait; from any thread."""
        loop = self._loop
        if loop is not None and self._waiting:
            try:
                loop.call_soon_threadsafe(self._wake)
            except RuntimeError:  # the server was closed meanwhile
                self._loop = None

    async def wait(self, seconds: float) -> None:
        """Wait until it rings, but not longer than some seconds."""
        self._loop = asyncio.get_running_loop()
        future = self._loop.create_future()
        self._waiting.add(future)
        try:
            await asyncio.wait([future], timeout=seconds)
        finally:
            self._waiting.discard(future)
            future.cancel()

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


class Newest:
    """The newest frame of every source.

    Attributes:
        bell: Rings with every frame.
    """

    def __init__(self) -> None:
        self.bell = Bell()
        self._lock = threading.Lock()
        self._painter = Painter()
        self._shown: dict[str, Shown] = {}
        self._index = 0

    def put(self, frame: Frame, event: EmotionEvent) -> None:
        """Take the next frame of a source."""
        with self._lock:
            self._index += 1
            self._shown.pop(event.source, None)  # the newest one is the last one
            while len(self._shown) >= _SOURCES:
                del self._shown[next(iter(self._shown))]
            self._shown[event.source] = Shown(self._index, frame.image, event, self._painter)
        self.bell.ring()

    def drop(self, source: str) -> None:
        """Forget the image of a source that is over."""
        with self._lock:
            self._shown.pop(source, None)

    def get(self, source: str) -> Shown | None:
        """Return the newest frame of a source; None if there is none."""
        with self._lock:
            return self._shown.get(source)

    def after(self, indexes: dict[str, int]) -> list[Shown]:
        """Return the newest frame of each source that is newer than the one of `indexes`, oldest first."""
        with self._lock:
            found = [one for name, one in self._shown.items() if one.index > indexes.get(name, 0)]
        return sorted(found, key=lambda one: one.index)
