"""Decode the video of a live stream that PyAV has opened."""

import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import ConnectionLost
from emotion_runtime.media.geometry import Geometry, deinterlaced
from emotion_runtime.media.opening import video_stream

_SLICED = ("h264", "hevc")  # codecs whose images have several slices
_MOST_PARTS = 64  # of an image

Explain = Callable[
    [Exception, float], ConnectionLost
]  # from an error of PyAV and the seconds that the call took


def opened(uri: str, options: dict[str, str], timeout: tuple[float, float], explain: Explain) -> Any:
    """Open a container of PyAV.

    Args:
        uri: Address, with the password.
        options: Options of FFmpeg.
        timeout: Seconds for opening, and for each packet.
        explain: Turns an error into what is raised.

    Raises:
        ConnectionLost: It cannot be opened.
    """
    started = time.monotonic()
    try:
        return av.open(uri, options=options, timeout=timeout)
    except (OSError, ValueError, av.error.FFmpegError) as error:
        lost = explain(error, time.monotonic() - started)
    raise lost  # here, so that it is not connected with the error, which holds the password


class _Joiner:
    """Joins the parts of images that FFmpeg took apart.

    Servers made with GStreamer can repeat the parameter sets between the slices of a key frame. There FFmpeg
    begins another image, and this one and all that refer to it are damaged. From the first such image on,
    each packet is held until one with another time comes.
    """

    def __init__(self) -> None:
        self._parts: list[Any] = []
        self._latest: int | None = None
        self._joins = False

    def push(self, packet: Any) -> Any | None:
        """Return the packet of a complete image; None if more may follow."""
        same = packet.pts is not None and packet.pts == self._latest
        self._latest = packet.pts
        self._joins = self._joins or same
        if not self._joins:
            return packet
        complete = None
        if self._parts and (not same or len(self._parts) == _MOST_PARTS):
            complete, self._parts = _joined(self._parts), []
        self._parts.append(packet)
        return complete


def _joined(parts: list[Any]) -> Any:
    packet = av.Packet(b"".join(bytes(part) for part in parts))
    packet.pts, packet.dts, packet.time_base = parts[0].pts, parts[0].dts, parts[0].time_base
    return packet


class LiveVideo:
    """The video of an open container, which the user closes, in the thread that reads it.

    Args:
        container: The container of PyAV.
        silence: Seconds without a frame that can be decoded, although data arrives.

    Attributes:
        codec: Name of the codec.
        arrival: When the packet of the latest frame arrived, on the scale of `time.monotonic()`.

    Raises:
        ConnectionLost: It holds no video, or none that can be decoded.
    """

    def __init__(self, container: Any, silence: float) -> None:
        self._container = container
        self._silence = silence
        stream = video_stream(container)
        if stream is None:
            raise ConnectionLost("it sends no video; give the address of a stream with video", "format")
        if stream.codec_context is None:
            raise ConnectionLost(
                "its video has a codec that cannot be decoded; choose H.264, H.265 or MJPEG in the camera",
                "format",
            )
        # Threads that each decode a frame would deliver every frame later by as many frames.
        stream.thread_type = "SLICE"
        self._stream = stream
        self._geometry = Geometry(stream)
        self.codec: str = stream.codec_context.name
        self.arrival = time.monotonic()

    @property
    def wall_start(self) -> float | None:
        """The wall-clock time of media time 0 that the camera stated, in seconds since 1970; often None."""
        start = getattr(self._container, "start_time_realtime", None)  # since PyAV 18
        return start / 1e6 if start else None

    def frames(self, cancel: Event, explain: Explain) -> Iterator[Any]:
        """Yield decoded frames, whose images `image` makes, until the stream ends.

        Args:
            cancel: Ends the frames at the next packet.
            explain: Turns an error into what is raised.

        Raises:
            ConnectionLost: The stream broke.
        """
        return deinterlaced(self._decodable(cancel, explain))

    def image(self, decoded: Any) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 BGR, upright and of square pixels."""
        return self._geometry.image(decoded)

    def _decodable(self, cancel: Event, explain: Explain) -> Iterator[Any]:
        packets = self._container.demux(self._stream)
        joiner = _Joiner() if self._stream.codec_context.name in _SLICED else None
        latest = time.monotonic()  # when a frame could be decoded
        while not cancel.is_set():
            asked, lost = time.monotonic(), None
            try:
                packet = next(packets, None)
            except (OSError, ValueError, av.error.FFmpegError) as error:
                packet, lost = None, explain(error, time.monotonic() - asked)
            if lost is not None:
                raise lost
            if packet is None or not packet.size:
                return
            arrival = time.monotonic()
            complete = packet if joiner is None else joiner.push(packet)
            try:
                frames = [] if complete is None else self._stream.codec_context.decode(complete)
            except av.error.FFmpegError:  # damaged; later ones may be intact
                frames = []
            if frames:
                latest = arrival
            elif arrival - latest > self._silence:
                raise ConnectionLost(
                    "it sends video that cannot be decoded; choose H.264, H.265 or MJPEG in the camera",
                    "format",
                )
            for decoded in frames:
                self.arrival = arrival
                yield decoded
