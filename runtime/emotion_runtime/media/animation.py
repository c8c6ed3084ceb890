"""Animated WebP, which FFmpeg does not decode, read with Pillow."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from emotion_runtime.errors import SourceBroken
from emotion_runtime.media.images import image_format, is_animated, opaque

_DEFAULT_STEP = 0.1  # seconds, which browsers use for frames without a duration


class Animation:
    """An open animation, with the methods of `media.video.Video`; transparent parts become white.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._image = Image.open(path)
        self.damage = ""
        self.irregular = self.interlaced = False
        self.step = _DEFAULT_STEP

    def close(self) -> None:
        """Release the file; safe to call twice."""
        self._image.close()

    def frames(self) -> Iterator[tuple[float, Any]]:
        """Decode all frames, each with its time in seconds; see `Video.frames`."""
        t = 0.0
        try:
            for frame in ImageSequence.Iterator(self._image):
                frame.load()
                yield t, frame.copy()
                t += self._seconds(frame)
        except (OSError, SyntaxError, ValueError) as error:
            self.damage = str(error)

    def seek(self, _t: float) -> bool:
        """Return False: an animation is read from its beginning."""
        return False

    def stated_end(self) -> float:
        """Return 0: the header states no duration."""
        return 0.0

    def image(self, decoded: Any) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 BGR."""
        return np.ascontiguousarray(np.asarray(opaque(decoded))[:, :, ::-1])

    def end(self, t: float, decoded: Any) -> float:
        """Return the time at which a frame that is shown at t ends."""
        return t + self._seconds(decoded)

    def check_complete(self, index: int, t: float, _end: float) -> None:
        """Raise `SourceBroken` if a frame could not be decoded; see `Video.check_complete`."""
        if self.damage:
            where = f"after frame {index} ({t:.2f} s)" if index >= 0 else "before its first frame"
            raise SourceBroken(
                f"source {self._path} failed {where}: the file is corrupt or truncated ({self.damage}); "
                "get a complete copy of it"
            )

    def _seconds(self, frame: Any) -> float:
        return float(frame.info.get("duration") or 1000 * self.step) / 1000


def is_animated_webp(path: str) -> bool:
    """Return whether a file is a WebP of several frames."""
    if image_format(path) != "WEBP":
        return False
    try:
        with Image.open(path, formats=["WEBP"]) as image:
            return is_animated(image)
    except (OSError, SyntaxError, ValueError):
        return False
