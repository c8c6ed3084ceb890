"""Check what programs pass to `EmotionRuntime`: one clear error for each mistake that is easily made."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from numbers import Real
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import EmotionError
from emotion_runtime.names import Precision
from emotion_runtime.timing import Timing
from emotion_runtime.types import Frame

_IMAGE = "(height, width, 3) uint8 BGR"
_MOST_SECONDS = 1e11  # seconds since 1970 are 2e9, milliseconds 2e12


def check_options(bundle: Any, detector: Any, timing: Any, unknown: Mapping[str, Any]) -> None:
    """Check the types of what `EmotionRuntime` is made from.

    Args:
        bundle: Name or folder of a bundle.
        detector: Name, file or callable.
        timing: A `Timing` or None.
        unknown: Options that `EmotionRuntime` does not have.

    Raises:
        EmotionError: A type is wrong, or an option is one of `Timing`.
        TypeError: An option does not exist.
    """
    times = [field.name for field in fields(Timing)]
    for name, value in unknown.items():
        if name in times:
            raise EmotionError(
                f"{name} is an option of Timing: EmotionRuntime(timing=Timing({name}={value!r}))"
            )
        raise TypeError(f"EmotionRuntime() got an unexpected keyword argument {name!r}")
    if not isinstance(bundle, str | Path):
        raise EmotionError(f"bundle {bundle!r}: expected the name or the folder of a bundle, such as 'nano'")
    if not isinstance(detector, str | Path) and not callable(detector):
        raise EmotionError(f"detector {detector!r}: expected 'face', an ONNX file, or a callable")
    if timing is not None and not isinstance(timing, Timing):
        raise EmotionError(
            f"timing {timing!r}: expected Timing({', '.join(f'{name}=...' for name in times)})"
        )
    given = {} if timing is None else {field.name: getattr(timing, field.name) for field in fields(Timing)}
    for name, value in given.items():
        optional = value is None and getattr(Timing(), name) is None
        automatic = value == "auto" and getattr(Timing(), name) == "auto"
        if not (optional or automatic) and (isinstance(value, bool) or not isinstance(value, Real)):
            raise EmotionError(f"Timing({name}={value!r}): expected a number")


def check_precision(precision: Any) -> None:
    """Check the precision of the encoders.

    Raises:
        EmotionError: It is neither None nor one that exists.
    """
    known = get_args(Precision)
    if precision is not None and precision not in known:
        raise EmotionError(f"precision {precision!r}: expected {', '.join(known)}")


def check_image(image: Any) -> NDArray[np.uint8]:
    """Return an image (H, W, 3) uint8 BGR as it is.

    Raises:
        EmotionError: It is something else.
    """
    if image is None:
        raise EmotionError(
            f"the image is None; expected an array of {_IMAGE}; cv2.imread returns None for a file that it "
            "cannot read: check the path"
        )
    if isinstance(image, str | Path):
        raise EmotionError(
            f"the image is the path {str(image)!r}; expected an array: use look({str(image)!r})"
        )
    if isinstance(image, list | tuple):
        raise EmotionError(
            f"the image is a {type(image).__name__} of {len(image)}; expected one array of {_IMAGE}: pass "
            "several photos to look([...]), and the frames of a video one by one to step(image, t)"
        )
    if not isinstance(image, np.ndarray):
        raise EmotionError(
            f"the image is of type {type(image).__name__}; expected an array of {_IMAGE}: "
            f"{_array_from(image)}"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise EmotionError(
            f"image of shape {image.shape} and type {image.dtype}: expected {_IMAGE}{_conversion(image)}"
        )
    return image


def _array_from(image: Any) -> str:
    """Return how to get an array from something else."""
    if isinstance(image, bytes | bytearray | memoryview):
        return "decode a file's bytes with cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)"
    if isinstance(image, Iterator | set | frozenset):
        return "pass several photos to look as a list"
    return "convert it with np.asarray, and RGB to BGR with image[:, :, ::-1]"


def _conversion(image: NDArray[Any]) -> str:
    """Return how to convert an array, if that is known."""
    if not image.size:
        return "; it is empty, as a crop outside of an image is"
    if image.ndim == 4:
        return "; pass several images as a list to look"
    if np.issubdtype(image.dtype, np.floating):
        return "; values from 0 to 1 become (255 * image).round().astype(np.uint8)"
    if image.ndim == 3 and image.shape[0] == 3:
        return "; put the colours last with np.ascontiguousarray(image.transpose(1, 2, 0))"
    code = {(): "GRAY2BGR", (1,): "GRAY2BGR", (4,): "BGRA2BGR"}.get(image.shape[2:])
    if image.dtype == np.uint8 and image.ndim > 1 and code:
        return f"; convert it with cv2.cvtColor(image, cv2.COLOR_{code})"
    return ""


def check_name(source: Any) -> str:
    """Return the name of a source of the caller's own as it is.

    Raises:
        EmotionError: It is not a text.
    """
    if not isinstance(source, str):
        raise EmotionError(f"source {source!r}: expected a name as a text, such as source='door'")
    return source


def check_time(t: Any, *, after: float, source: str) -> float:
    """Return a time in seconds as a float.

    Args:
        t: The time.
        after: Time of the frame before it.
        source: Name of the source, for the message.

    Raises:
        EmotionError: It is not a number, not finite, or before `after`.
    """
    try:
        seconds = float(t)
    except (TypeError, ValueError, OverflowError) as error:
        raise EmotionError(f"source {source!r}: t {t!r}; expected seconds as a number") from error
    if math.isfinite(seconds) and abs(seconds) > _MOST_SECONDS:
        raise EmotionError(
            f"source {source!r}: t {seconds:g}; expected seconds, of a video or since 1970, at most "
            f"{_MOST_SECONDS:.0e}: are these milliseconds?"
        )
    if not after <= seconds < math.inf:
        hint = f": call forget({source!r}) to start over" if seconds < after else ""
        raise EmotionError(
            f"source {source!r}: t {seconds} after t {after}; expected seconds that do not decrease{hint}"
        )
    return seconds


class OwnFrames:
    """Checks and counts the frames that a program passes one by one."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, float]] = {}  # index and t of the last frame, by source

    def frame(self, image_bgr: Any, t: Any, source: Any) -> Frame:
        """Return the next frame of a source.

        Args:
            image_bgr: (H, W, 3) uint8 BGR.
            t: Seconds, not decreasing within a source.
            source: Name of the source.

        Raises:
            EmotionError: The image, the time or the source is not as described.
        """
        image = check_image(image_bgr)
        index, after = self._last.get(check_name(source), (-1, -math.inf))
        seconds = check_time(t, after=after, source=source)
        self._last[source] = index + 1, seconds
        return Frame(image, index + 1, seconds, source)

    def forget(self, source: str) -> None:
        """Let a source start anew; nothing happens if there is none of this name."""
        self._last.pop(source, None)


def check_sources(sources: Iterable[Any]) -> None:
    """Check the types of what is to be opened.

    Raises:
        EmotionError: There is no source, or one of them is not a path, URI or number.
    """
    expected = "expected a file, `demo`, a camera number or a stream"
    empty = True
    for source in sources:
        empty = False
        if isinstance(source, str | Path | int) and not isinstance(source, bool):
            continue
        kind = type(source).__name__
        if source is None:
            fix = "give a path"
        elif isinstance(source, np.ndarray):
            fix = "use look(image) for a photo, and step(image, t) for the frames of a video"
        elif isinstance(source, list | tuple):
            fix = "give each source as an argument of its own: stream(*sources); for images use look(images)"
        else:
            fix = "for frames of your own use step(image, t)"
        raise EmotionError(f"the source is of type {kind}; {expected}: {fix}")
    if empty:
        raise EmotionError(f"no source: {expected}")
