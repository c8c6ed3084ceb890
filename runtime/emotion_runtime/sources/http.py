"""Streams over HTTP: Motion JPEG, snapshots, HLS and videos, told apart by what the server sends."""

import time
from collections.abc import Callable, Generator, Iterator
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import ConnectionLost
from emotion_runtime.sources.decoding import LiveVideo, opened
from emotion_runtime.sources.faults import certificates, ended, explained, not_a_stream
from emotion_runtime.sources.http_client import Answer, HttpClient
from emotion_runtime.sources.media_clock import MediaClock, Pacer, wall_clock
from emotion_runtime.sources.mjpeg import parts
from emotion_runtime.sources.network_address import NetworkAddress, NetworkLimits
from emotion_runtime.sources.shots import Shot

_SEGMENTS = 3  # times the silence that HLS may wait for its next segment
_REST = 2.0  # seconds by which a video may end before its stated end
_OPTIONS = {
    "max_redirects": "0",  # they are followed before, by `HttpClient`
    "http_proxy": "none",  # otherwise FFmpeg uses the one of the environment; "" is lost in playlists
    "tls_verify": "1",
    "live_start_index": "-1",
}
# A playlist must not open files, nor give up encryption.
_PROTOCOLS = {"http": "http,https,tcp,tls,crypto,data", "https": "https,tcp,tls,crypto,data"}


def read_http(address: NetworkAddress, limits: NetworkLimits, cancel: Event) -> Generator[Shot, None, None]:
    """Open an address of HTTP and yield its images.

    Motion JPEG has the times of arrival. A JPEG, PNG or WebP image is requested again and again. HLS and
    video files arrive faster than they play, and are paced by their media times. Another stream, such as
    MPEG-TS without an end, has the times of arrival, smoothed by its media times. A video file, and
    HLS with an end, are played once.

    Args:
        address: What to open.
        limits: Time limits.
        cancel: Ends the images.

    Raises:
        ConnectionLost: It cannot be opened, or it ended.
    """
    client = HttpClient(address, cancel)
    answer = client.request(limits.opening)
    try:
        kind = answer.kind
        if kind in ("", "application/octet-stream") and answer.is_image():
            kind = "image/jpeg"
        if kind.startswith("multipart/"):
            yield from _mjpeg(answer, limits, cancel)
        elif kind.startswith("image/"):
            every = float(address.options.get("every", limits.every))
            yield from _snapshots(answer, lambda: client.request(limits.opening), every, cancel)
    finally:
        answer.close()
    if not kind.startswith(("multipart/", "image/")):
        # Many servers call a playlist plain text.
        playlist = kind.endswith("mpegurl") or (".m3u8" in address.bare and kind != "text/html")
        if kind.startswith("text/") and not playlist:
            raise ConnectionLost(
                f"the server sends a page ({kind}), not video; give the address of the stream itself",
                "format",
            )
        yield from _video(
            _found(address, answer.url), limits, cancel, paced=playlist or answer.length is not None
        )
    if not cancel.is_set():
        raise ended()


def _mjpeg(answer: Answer, limits: NetworkLimits, cancel: Event) -> Iterator[Shot]:
    """Yield the images of a Motion JPEG stream; a damaged one is left out."""
    latest = time.monotonic()
    answer.allow(limits.silence)
    for data, arrival in parts(answer, answer.boundary):
        image = _image(data)
        if image is not None:
            latest = arrival
            yield Shot(image, arrival, wall_clock(arrival), codec="mjpeg")
            answer.allow(limits.silence)
        elif arrival - latest > limits.silence:
            raise ConnectionLost("it sends images that are not JPEG; check the address", "format")
        if cancel.is_set():
            return


def _snapshots(first: Answer, again: Callable[[], Answer], every: float, cancel: Event) -> Iterator[Shot]:
    """Yield an image that is requested again and again."""
    answer = first
    while not cancel.is_set():
        asked = time.monotonic()
        try:
            data = answer.rest()
        finally:
            answer.close()
        arrival = time.monotonic()
        image = _image(data)
        if image is None:
            raise ConnectionLost("it sends an image that cannot be decoded; check the address", "format")
        yield Shot(image, arrival, wall_clock(arrival), next_in=every)
        if cancel.wait(max(0.0, asked + every - time.monotonic())):
            return
        answer = again()


def _found(address: NetworkAddress, url: str) -> str:
    """Return where an address leads after redirections, with the password if that is the same server."""
    asked, found = urlsplit(address.uri), urlsplit(url)
    same = found.netloc == urlsplit(address.bare).netloc
    return found._replace(netloc=asked.netloc).geturl() if same else url


def _video(uri: str, limits: NetworkLimits, cancel: Event, *, paced: bool) -> Iterator[Shot]:
    """Yield the images of HLS and of anything else that FFmpeg reads."""
    silence = limits.silence * (_SEGMENTS if paced else 1)

    def lost(error: Exception, waited: float) -> ConnectionLost:
        return explained(error, waited, silence) or not_a_stream("a format that can be played")

    protocols = _PROTOCOLS[urlsplit(uri).scheme]
    options = {**_OPTIONS, "protocol_whitelist": protocols, "ca_file": certificates() or ""}
    container = opened(uri, options, (limits.opening, silence), lost)
    try:
        video = LiveVideo(container, limits.silence)
        pacer, clock, played = Pacer(), MediaClock(), 0.0
        for decoded in video.frames(cancel, lost):
            media: float | None = decoded.time
            captured = pacer.wait(media, cancel) if paced else clock.captured(media, video.arrival)
            played = media or played
            yield Shot(video.image(decoded), captured, wall_clock(captured), codec=video.codec)
        stated = container.duration  # in microseconds; None for a live stream
        if paced and stated and played > stated / av.time_base - _REST and not cancel.is_set():
            raise ConnectionLost("the video was played to its end", "ended", final=True)
    finally:
        container.close()


def _image(data: bytes) -> NDArray[np.uint8] | None:
    """Return (H, W, 3) uint8 BGR; None if the data is damaged."""
    if not data:
        return None
    try:
        image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:  # larger than OpenCV allows
        return None
    return None if image is None else np.asarray(image, np.uint8)
