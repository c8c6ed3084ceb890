"""Cameras at USB, through OpenCV."""

import logging
import os
import re
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from threading import Event
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import ConnectionLost, EmotionError
from emotion_runtime.sources.shots import Connect, Shot
from emotion_runtime.sources.uri_options import rate_option, size_option, split_options
from emotion_runtime.sources.video_nodes import pixel_formats, problem_of

_OLDEST = 10.0  # seconds; a time stamp that says more is on another clock
_LOOK = 100_000_000  # nanoseconds between two looks at `stop`


@dataclass(frozen=True, slots=True)
class _Request:
    """The camera that is asked for, and how it is to deliver its images.

    Attributes:
        device: A number, or the path of a device.
        size: Width and height in pixels. None: as the driver likes.
        fps: Frames per second. None: as the driver likes.
        pixels: Four letters that name a pixel format, such as MJPG. None: the first that OpenCV knows.
    """

    device: int | Path
    size: tuple[int, int] | None
    fps: float | None
    pixels: str | None

    def __str__(self) -> str:
        """Return the options as in the URI."""
        size = f"size={self.size[0]}x{self.size[1]}" if self.size else ""
        fps = f"fps={self.fps:g}" if self.fps else ""
        pixels = f"format={self.pixels}" if self.pixels else ""
        return " ".join(filter(None, (size, fps, pixels)))


def connect_camera(uri: str) -> Connect:
    """Return a function that opens a camera and yields its images; see `Connect`.

    Each call opens the device anew, so that a camera that was unplugged works again when it is back.

    Args:
        uri: A number (0 is the first camera), /dev/videoN, a path below /dev/v4l, or v4l2:// and a path. On
            Linux `?size=1280x720&fps=30&format=MJPG` may follow; the driver chooses the nearest that it has.

    Raises:
        EmotionError: The URI is not that of a camera, or has a wrong option.
    """
    return _Camera(_request(uri)).shots


class _Camera:
    """A camera that can be opened again and again."""

    def __init__(self, request: _Request) -> None:
        self._request = request
        self._compared = False

    def shots(self, stop: Event) -> Generator[Shot, None, None]:
        """Open the camera and yield images until `stop` is set.

        Raises:
            ConnectionLost: The camera cannot be opened, or delivers no more images.
        """
        if "OPENCV_LOG_LEVEL" not in os.environ:  # OpenCV prints what the messages here say better
            _set_log_level(0)
        node = _node(self._request.device)
        capture = _open(self._request, node)
        try:
            last = 0.0
            while not stop.is_set():
                image = _next_image(capture, node)
                if image is None:
                    continue
                if not self._compared:
                    self._compare(capture, image)
                now = time.monotonic()
                last = max(last, _captured(capture, now))
                yield Shot(image, last, datetime.now(timezone.utc) - timedelta(seconds=now - last))
        finally:
            capture.release()

    def _compare(self, capture: Any, image: NDArray[np.uint8]) -> None:
        """Log once how the camera delivers its images, if another mode was requested."""
        self._compared = True
        request = self._request
        height, width = image.shape[:2]
        rate = capture.get(cv2.CAP_PROP_FPS)
        code = int(capture.get(cv2.CAP_PROP_FOURCC))
        pixels = "".join(chr(code >> 8 * i & 0xFF) for i in range(4)).strip("\0 ")
        if (
            request.size in (None, (width, height))
            and (request.fps is None or rate <= 0 or abs(rate - request.fps) <= 0.02 * request.fps)
            and request.pixels in (None, pixels.upper())
        ):
            return
        compressed = request.pixels is not None or pixels in ("MJPG", "JPEG")
        logging.getLogger(__name__).warning(
            "camera %s delivers %dx%d at %g fps (%s) and not %s, which it does not have%s",
            request.device,
            width,
            height,
            rate,
            pixels,
            request,
            "" if compressed else "; try format=MJPG: compressed images can be larger or come faster",
        )


def _set_log_level(level: int) -> None:
    """Set how much OpenCV prints, from 0, nothing, to 6; its name is one of OpenCV 4 or of 5."""
    (cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel)(level)


def _request(uri: str) -> _Request:
    address, options = split_options(uri, ("size", "fps", "format"))
    match = re.fullmatch(r"(?:v4l2://)?(/dev/(?:video\d+|v4l/.+))", address)
    if match is None and not re.fullmatch(r"[0-9]{1,6}", address):
        raise EmotionError(
            f"camera {uri}: expected a number from 0 to 999999, v4l2:///dev/videoN or "
            "v4l2:///dev/v4l/by-id/NAME"
        )
    if sys.platform != "linux" and (match or options):
        raise EmotionError(f"camera {uri}: device paths and options exist on Linux only; give a number")
    pixels = options.get("format")
    if pixels is not None and not re.fullmatch(r"[A-Za-z0-9]{3,4}", pixels):
        raise EmotionError(f"camera {uri}: format={pixels} is not a pixel format; expected such as MJPG")
    return _Request(
        Path(match[1]) if match else int(address),
        size_option(uri, options),
        rate_option(uri, options),
        pixels.upper() if pixels else None,
    )


def _node(device: int | Path) -> Path:
    """Return the device file. What a link points to changes when the camera is connected again."""
    return Path(f"/dev/video{device}") if isinstance(device, int) else device.resolve()


def _open(request: _Request, node: Path) -> Any:
    """Open a camera as a `cv2.VideoCapture`.

    Raises:
        ConnectionLost: It cannot be opened.
    """
    number = re.fullmatch(r"/dev/video(\d+)", str(node))
    if number is None:  # a link to nothing resolves to itself
        raise problem_of(node) or ConnectionLost(f"{node} is not a video device", "format")
    # Without a backend OpenCV tries several, one after the other.
    linux = sys.platform == "linux"
    capture = cv2.VideoCapture(int(number[1]), cv2.CAP_V4L2 if linux else cv2.CAP_ANY)
    if not capture.isOpened():
        capture.release()
        raise (_why_closed(node) if linux else None) or ConnectionLost(
            "the camera cannot be opened; check its cable and that this program may use it, and close other "
            "programs that use it",
            "device",
        )
    if request.pixels:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*request.pixels.ljust(4)))
    if request.size:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, request.size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, request.size[1])
    if request.fps:
        capture.set(cv2.CAP_PROP_FPS, request.fps)
    return capture


def _why_closed(node: Path) -> ConnectionLost | None:
    """Return why a device of Linux does not open; None if it does not say."""
    problem, formats = problem_of(node), pixel_formats(node)
    if problem is None and formats:  # it would work, for a program that knows its formats
        names = ", ".join(formats)
        return ConnectionLost(
            f"the camera does not start; it may have no pixel format that OpenCV knows ({names}): open it "
            "with a pipeline, such as gst:v4l2src",
            "device",
        )
    return problem


def _next_image(capture: Any, node: Path) -> NDArray[np.uint8] | None:
    """Wait a moment for the next image and return it, (H, W, 3) uint8 BGR; None if there is none yet.

    An empty image, as drivers deliver some, is none.

    Raises:
        ConnectionLost: The camera delivers no more images, or such as cannot be used.
    """
    try:
        if sys.platform != "linux":
            read, image = capture.read()
            if not read:
                raise _stopped(capture, node)
        elif cv2.VideoCapture.waitAny([capture], _LOOK)[0]:  # a read would wait for up to 10 s
            _, image = capture.retrieve()  # fails if the image is damaged: the next one may be good
        else:
            return None
    except cv2.error as error:  # so OpenCV reports an unplugged camera
        raise _stopped(capture, node) from error
    return None if image is None or not image.size else _as_bgr(image)


def _stopped(capture: Any, node: Path) -> ConnectionLost:
    """Return why a camera delivers no more images."""
    capture.release()  # otherwise the device is in use by this program
    return (problem_of(node) if sys.platform == "linux" else None) or ConnectionLost(
        "the camera stopped; check its cable, its power and that no other program uses it", "device"
    )


def _as_bgr(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an image as BGR. Drivers also deliver grey images, and ones with a fourth channel.

    Raises:
        ConnectionLost: It is of another kind.
    """
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    if image.dtype != np.uint8 or channels not in (1, 3, 4):
        raise ConnectionLost(
            f"the camera delivers images of shape {image.shape} and type {image.dtype}; expected 8-bit grey, "
            "BGR or BGRA: choose another pixel format with format=, or another camera",
            "format",
        )
    if channels == 3:
        return image
    code = cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR
    return np.asarray(cv2.cvtColor(image, code), np.uint8)


def _captured(capture: Any, now: float) -> float:
    """Return when the image that was just read was captured, on the scale of `time.monotonic()`.

    Linux stamps an image when it arrives, by the monotonic clock. Some drivers stamp by another clock or not
    at all: then it is the time of the read.
    """
    stamp = float(capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000.0 if sys.platform == "linux" else 0.0
    return stamp if 0.0 <= now - stamp <= _OLDEST else now
