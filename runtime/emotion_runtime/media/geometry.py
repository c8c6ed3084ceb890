"""From decoded frames to upright images of square pixels, as a player shows them."""

import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

_NEARLY_SQUARE = 0.01  # a ratio this close to 1 is that of a rounded size, not worth a change of all pixels
_WIDEST = 8.0  # a ratio beyond this is a mistake in the file
_SMALLEST = 4  # pixels, side of a frame that can be deinterlaced
_TICK = Fraction(1, 90_000)  # seconds, of frames without a time base
_MATRIX = "DISPLAYMATRIX"


class Geometry:
    """Turns decoded frames of one stream into images.

    Args:
        stream: The video stream of PyAV, before the first frame is decoded.
    """

    def __init__(self, stream: Any) -> None:
        self._context = stream.codec_context
        stated, coded = stream.sample_aspect_ratio, self._context.sample_aspect_ratio
        # The container's ratio takes precedence over that of the codec, which may change from frame to frame.
        self._override = stated if stated and stated != coded else None
        self._stretches = False
        self._scaler = _Filter()
        # A frame's own converter would start threads for each frame, which end only with the garbage.
        self._converter = VideoReformatter()

    def image(self, decoded: Any) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 BGR with square pixels, mirrored and rotated as the display matrix says."""
        # The codec's state may be ahead of the frame, so from the first ratio on the filter asks each frame.
        ratio = self._override or self._context.sample_aspect_ratio
        self._stretches = self._stretches or _is_stretched(ratio)
        if self._stretches:
            decoded = self._scaler.one(decoded, [*self._set_ratio(), ("scale", _to_square())], ratio)
        image = np.asarray(self._converter.reformat(decoded, format="bgr24").to_ndarray(), np.uint8)
        return _displayed(image, decoded)

    def _set_ratio(self) -> list[tuple[str, str]]:
        ratio = self._override
        return [("setsar", f"{ratio.numerator}/{ratio.denominator}")] if ratio else []


def deinterlaced(frames: Iterable[Any]) -> Iterator[Any]:
    """Yield the frames, and from the first interlaced one on, interlaced ones as one full image each.

    Frames that are not flagged as interlaced pass unchanged. The number of frames stays the same.
    """
    weaver: _Filter | None = None
    for decoded in frames:
        if weaver is None and decoded.interlaced_frame and min(decoded.width, decoded.height) >= _SMALLEST:
            weaver = _Filter()
        if weaver is None:
            yield decoded
        else:
            yield from weaver.push(decoded, [("bwdif", "mode=send_frame:deint=interlaced")])
    if weaver is not None:
        yield from weaver.flush()


class _Filter:
    """A chain of FFmpeg's filters, which starts anew when the format of the frames changes."""

    def __init__(self) -> None:
        self._graph: Any = None
        self._source = ""  # options of its source, which describe the frames

    def push(
        self, decoded: Any, chain: list[tuple[str, str]], ratio: Fraction | None = None
    ) -> Iterator[Any]:
        """Yield the frames that are complete after this one.

        Args:
            decoded: The frame.
            chain: Names and options of the filters.
            ratio: Aspect ratio of the pixels, for releases of FFmpeg that do not ask each frame.
        """
        source = (
            f"video_size={decoded.width}x{decoded.height}:pix_fmt={decoded.format.name}:"
            f"time_base={decoded.time_base or _TICK}:pixel_aspect={ratio or 0}"
        )
        if source != self._source:
            yield from self.flush()
            self._graph, self._source = _graph([("buffer", source), *chain, ("buffersink", "")]), source
        self._graph.push(decoded)
        yield from self._pulled()

    def one(self, decoded: Any, chain: list[tuple[str, str]], ratio: Fraction | None) -> Any:
        """Return the frame that a chain without delay makes of this one."""
        return next(iter(list(self.push(decoded, chain, ratio))))

    def flush(self) -> Iterator[Any]:
        """Yield the remaining frames."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pulled()
            self._graph, self._source = None, ""

    def _pulled(self) -> Iterator[Any]:
        with suppress(BlockingIOError, EOFError):  # it needs another frame, or is flushed
            while True:
                yield self._graph.pull()


def _graph(chain: list[tuple[str, str]]) -> Any:
    graph = Graph()
    graph.link_nodes(*(graph.add(name, options) for name, options in chain)).configure()
    return graph


def _is_stretched(ratio: Fraction | None) -> bool:
    if not ratio:  # None or 0: not stated
        return False
    return abs(float(ratio) - 1) > _NEARLY_SQUARE and 1 / _WIDEST <= ratio <= _WIDEST


def _to_square() -> str:
    """Return options of the filter `scale` that enlarge the shorter side of the pixels."""
    return (
        f"w='round(iw*clip(sar,1,{_WIDEST}))':h='round(ih/clip(sar,1/{_WIDEST},1))':eval=frame:flags=bicubic"
    )


def _displayed(image: NDArray[np.uint8], decoded: Any) -> NDArray[np.uint8]:
    """Apply the display matrix, which maps (x, y) to (a x + c y, b x + d y); phones record sideways."""
    # The property `side_data` of a frame ties both to each other: such frames wait for the garbage collector,
    # in a long run for hours, with all their memory.
    container: Any = SideDataContainer  # PyAV does not declare what it is made from
    matrix = container(decoded).get(_MATRIX)
    if matrix is None:
        return image
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    if abs(b) > abs(a):  # rows become columns
        image, a, d = image.swapaxes(0, 1), c, b
    return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])
