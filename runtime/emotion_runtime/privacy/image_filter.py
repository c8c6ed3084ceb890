"""From the image of a source to what is analysed, and to what may leave."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from emotion_runtime.errors import EmotionError
from emotion_runtime.names import Blur
from emotion_runtime.privacy.hiding import PeopleHider
from emotion_runtime.privacy.zones import Zones, parse_zone
from emotion_runtime.types import Detections, Frame, Track


@dataclass(frozen=True, slots=True)
class Privacy:
    """What is hidden in images.

    Attributes:
        blur: Who is hidden in the images that leave: "none", "faces" or "persons".
        zones: Parts of images that are neither analysed nor leave, written as on the command line:
            `[SOURCE=]x1,y1,x2,y2`, or the corners of a polygon, as fractions of the image.
    """

    blur: Blur = "none"
    zones: Sequence[str] = ()


class ImageFilter:
    """Fills zones before an image is analysed, and hides people before it leaves.

    Args:
        privacy: What is hidden.

    Raises:
        EmotionError: A value of `privacy` has a mistake.
    """

    def __init__(self, privacy: Privacy | None = None) -> None:
        given = privacy or Privacy()
        if not isinstance(given, Privacy):
            raise EmotionError(f"privacy {privacy!r}: expected Privacy(blur=..., zones=[...])")
        if given.blur not in get_args(Blur):
            raise EmotionError(f"blur {given.blur!r}: expected one of {', '.join(get_args(Blur))}")
        if isinstance(given.zones, str):
            raise EmotionError(f"zones {given.zones!r}: expected a list of texts")
        self._zones = Zones([parse_zone(zone) for zone in given.zones])
        self._hider = None if given.blur == "none" else PeopleHider(given.blur)

    def fill(self, frame: Frame) -> Frame:
        """Return a frame as it may be analysed."""
        return self._zones.fill(frame)

    def see(self, frame: Frame, detections: Detections, missing: Sequence[Track]) -> None:
        """Take note of the people in a frame, see `PeopleHider.see`."""
        if self._hider is not None:
            self._hider.see(frame, detections, missing)

    def leaving(self, frame: Frame) -> Frame:
        """Return a frame as it may leave. Call it for every frame, after people were looked for in it."""
        filled = self._zones.fill(frame)
        return filled if self._hider is None else self._hider.hide(filled)

    def forget(self, source: str) -> None:
        """Drop the state of a source that ended."""
        if self._hider is not None:
            self._hider.forget(source)
