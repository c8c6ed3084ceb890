"""Cameras, through OpenCV."""

import os
import re
import sys
import time
from collections.abc import Generator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.types import Frame


def read_camera(uri: str) -> Generator[Frame, None, None]:
    """Open a camera and return its frames as they arrive; meant for `live.newest`.

    The camera is opened at once. `Frame.t` counts from the first frame; `Frame.source` is the URI.

    Args:
        uri: A number (0 is the first camera) or v4l2:///dev/videoN.

    Raises:
        EmotionError: The camera does not exist, cannot be opened, or access is denied. While iterating:
            `SourceBroken` if it stops.
    """
    device = _device(uri)
    if sys.platform == "linux":
        # Checked here because OpenCV only prints that it failed, several times, to standard error.
        _check_node(uri, Path(f"/dev/video{device}"))
    capture = cv2.VideoCapture(device)
    if not capture.isOpened():
        capture.release()
        raise EmotionError(f"camera {uri} cannot be opened; close other programs that use it")
    # Old frames in the driver's queue would add to the latency of every frame.
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return frames_of(capture, uri)


def frames_of(capture: Any, uri: str) -> Generator[Frame, None, None]:
    """Yield the frames of an opened `cv2.VideoCapture`, which is released at the end.

    Raises:
        SourceBroken: The capture returns no more frames.
    """
    index, start, now = -1, 0.0, 0.0
    try:
        while True:
            image = _next_image(capture, uri)
            if image is None:
                where = (
                    f"after frame {index} ({now - start:.2f} s)" if index >= 0 else "before its first frame"
                )
                raise SourceBroken(
                    f"camera {uri} failed {where}; check its cable, and that no other program uses it"
                )
            now = time.monotonic()
            index += 1
            if index == 0:
                start = now
            yield Frame(image, index, now - start, uri, captured=now, time=datetime.now(timezone.utc))
    finally:
        capture.release()


def _next_image(capture: Any, uri: str) -> NDArray[np.uint8] | None:
    """Return the next image (H, W, 3) uint8 BGR; None if the camera gives no more.

    Drivers also deliver empty images, which are skipped, and grey ones or ones with a fourth channel.

    Raises:
        SourceBroken: The camera delivers something else.
    """
    while True:
        try:
            read, image = capture.read()
        except cv2.error as error:
            raise SourceBroken(f"camera {uri} failed: {error.err}; check its cable") from error
        if not read:
            return None
        if image is not None and image.size:
            return _as_bgr(image, uri)


def _as_bgr(image: NDArray[Any], uri: str) -> NDArray[np.uint8]:
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    if image.dtype != np.uint8 or channels not in (1, 3, 4):
        raise SourceBroken(
            f"camera {uri} delivers images of shape {image.shape} and type {image.dtype}; expected 8-bit "
            "grey, BGR or BGRA: choose another pixel format, or another camera"
        )
    if channels == 3:
        return image
    code = cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR
    return np.asarray(cv2.cvtColor(image, code), np.uint8)


def _device(uri: str) -> int:
    match = re.fullmatch(r"(?:v4l2:///dev/video)?(\d+)", uri)
    if match is None:
        raise EmotionError(f"camera {uri}: expected a number or v4l2:///dev/videoN")
    return int(match[1])


def _check_node(uri: str, node: Path) -> None:
    if not node.exists():
        present = sorted(str(path) for path in Path("/dev").glob("video*"))
        found = f"found {', '.join(present)}" if present else "no camera is connected"
        raise EmotionError(f"camera {uri}: {node} does not exist ({found}); try a file or `demo`")
    if not os.access(node, os.R_OK | os.W_OK):
        raise EmotionError(
            f"camera {uri}: no permission for {node}; run `sudo usermod -aG video $USER`, then log in again"
        )
