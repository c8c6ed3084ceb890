"""Cameras and servers of RTSP, through PyAV."""

import errno
from collections.abc import Generator
from threading import Event
from typing import Any

from emotion_runtime.errors import ConnectionLost
from emotion_runtime.sources.decoding import LiveVideo, opened
from emotion_runtime.sources.faults import certificates, ended, explained, not_a_stream, probed
from emotion_runtime.sources.media_clock import MediaClock, wall_clock
from emotion_runtime.sources.network_address import NetworkAddress, NetworkLimits
from emotion_runtime.sources.shots import Shot

_OPTIONS = {
    # Over UDP a lost packet damages the image, and nothing says so. A camera that has only UDP opens, too.
    "rtsp_flags": "prefer_tcp",
    "allowed_media_types": "video",
    "analyzeduration": "500000",  # microseconds; by default, opening takes 2 to 3 s
    # Otherwise the frames that were read while opening arrive as if they were fresh.
    "fflags": "nobuffer",
    "flags": "low_delay",
}


def read_rtsp(address: NetworkAddress, limits: NetworkLimits, cancel: Event) -> Generator[Shot, None, None]:
    """Open a stream of RTSP and yield its images.

    A container cannot be closed while another thread reads it: only its time limits end a read that waits.

    Args:
        address: The stream.
        limits: Time limits.
        cancel: Ends the images at the next packet, or when a time limit ends.

    Raises:
        ConnectionLost: It cannot be opened, or it ended.
    """
    container = _open(address, limits)
    try:
        video = LiveVideo(container, limits.silence)
        clock = MediaClock()
        frames = video.frames(cancel, lambda error, waited: _lost(error, waited, limits.silence, address))
        for decoded in frames:
            captured = clock.captured(decoded.time, video.arrival, video.wall_start)
            yield Shot(video.image(decoded), captured, wall_clock(captured), codec=video.codec)
    finally:
        container.close()
    if not cancel.is_set():
        raise ended()


def _open(address: NetworkAddress, limits: NetworkLimits) -> Any:
    options = dict(_OPTIONS)
    if "transport" in address.options:
        del options["rtsp_flags"]
        options["rtsp_transport"] = address.options["transport"]
    if address.scheme == "rtsps":
        options |= {"tls_verify": "1", "ca_file": certificates() or ""}
    # At its first time-out, FFmpeg delivers the frame that it still held, and waits once more.
    timeout = (limits.opening, limits.silence / 2)
    return opened(
        address.uri, options, timeout, lambda error, waited: _lost(error, waited, limits.opening, address)
    )


def _lost(error: Exception, waited: float, limit: float, address: NetworkAddress) -> ConnectionLost:
    if getattr(error, "errno", None) == errno.EPROTONOSUPPORT:
        other = {"tcp": "udp", "udp": "tcp"}[address.options.get("transport", "tcp")]
        return ConnectionLost(f"the server does not offer this transport; use #transport={other}", "format")
    known = explained(error, waited, limit)
    return known or probed(address, limit) or not_a_stream("RTSP")
