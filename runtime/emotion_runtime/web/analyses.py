"""Images that clients send to be analysed: the loop of the run does it, between two of its own steps.

The models belong to the thread of the run, so the threads of the server only put images into a queue.
"""

import io
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from emotion_runtime.errors import EmotionError
from emotion_runtime.media.images import ImageError, pixels
from emotion_runtime.types import Person

_WAITING = 4  # images
_PIXELS = 25_000_000  # 75 MB; five of them are in memory at once, at most
_FORMATS = ("JPEG", "PNG", "WEBP")

Look = Callable[[NDArray[np.uint8]], list[Person]]


class Analyses:
    """A short queue of images.

    Args:
        look: Returns the people in an image (H, W, 3) uint8 BGR; called in the thread of the run only.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._jobs: queue.Queue[tuple[NDArray[np.uint8], Future[list[Person]]]] = queue.Queue(_WAITING)
        self._closed = threading.Event()

    def submit(self, image: NDArray[np.uint8]) -> "Future[list[Person]] | None":
        """Put an image into the queue. Return None if it is full, or the run ends."""
        future: Future[list[Person]] = Future()
        if self._closed.is_set():
            return None
        try:
            self._jobs.put_nowait((image, future))
        except queue.Full:
            return None
        return future

    def run_one(self) -> None:
        """Analyse the next image, if there is one."""
        try:
            image, future = self._jobs.get_nowait()
        except queue.Empty:
            return
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(self._look(image))
        except InvalidStateError:
            return
        except Exception as error:  # noqa: BLE001 - the client's request fails, and the run goes on
            future.set_exception(error)

    def close(self) -> None:
        """Cancel what is in the queue."""
        self._closed.set()
        with suppress(queue.Empty):
            while True:
                self._jobs.get_nowait()[1].cancel()


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels of an image file, as `media.images.read_image` does.

    Args:
        data: The file: JPEG, PNG or WebP.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        EmotionError: It is none of these, it is corrupt, it has too many pixels, or it does not state the
            range of its values.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            size = image.size
            if size[0] * size[1] <= _PIXELS:
                return np.ascontiguousarray(pixels(image, "in the body")[:, :, ::-1])
    except ImageError:
        raise
    except Exception as error:
        # Pillow's decoders raise errors of many kinds for corrupt files.
        raise EmotionError("the body is not an image; expected a JPEG, PNG or WebP file") from error
    raise EmotionError(
        f"the image has {size[0]} x {size[1]} pixels; expected at most {_PIXELS // 1_000_000} million"
    )
