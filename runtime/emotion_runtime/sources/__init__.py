"""Sources of frames: one URI syntax for files, folders, pipes, cameras, streams and the demo scene."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from threading import Event

from emotion_runtime.sources.files import expand, is_many
from emotion_runtime.sources.live_limits import LiveLimits
from emotion_runtime.sources.shots import Connect
from emotion_runtime.sources.source import Source
from emotion_runtime.sources.uris import (
    Address,
    is_network,
    name_of_file,
    parse_source,
    parse_sources,
    same_target,
)
from emotion_runtime.types import Frame

__all__ = [
    "Address",
    "LiveLimits",
    "Source",
    "expand",
    "is_many",
    "is_network",
    "open_source",
    "parse_source",
    "parse_sources",
    "same_target",
]


def open_source(
    uri: str | int | Path | Address,
    *,
    realtime: bool = False,
    follow: bool = False,
    stop: Event | None = None,
    limits: LiveLimits | None = None,
) -> Source:
    """Open a source of frames.

    A camera or stream that cannot be opened now is no error: it is opened again until it is there.

    Args:
        uri: Path of a video or photo, a folder or a pattern (`*.jpg`) of them, a named pipe, `-` for standard
            input, `demo`, a camera number, v4l2:///dev/videoN, rtsp://, rtsps://, http://, https://, csi://N
            or gst:PIPELINE, each also as NAME=URI; or what `parse_source` returned. Every file of a folder
            or pattern is a source of its own: `Frame.source` is its path. Photos give one frame each, with
            `Frame.still`.
        realtime: Play a file or the demo at its own speed, and drop and count frames that come too late, as
            for a camera. Otherwise every frame is delivered. A camera is always in real time.
        follow: At the end of a video file, wait for more: another program is still writing it.
        stop: When it is set, the source ends soon, whatever it waits for. None: only `Source.stop` ends it.
        limits: Times after which a camera or stream is lost, frozen and so on. None: the defaults.

    Raises:
        EmotionError: The URI has a mistake, or a file cannot be opened. While iterating: `SourceBroken` if it
            fails midway.
    """
    # Each source is imported when it is opened, to keep the start-up time short.
    address = uri if isinstance(uri, Address) else parse_source(uri)
    stop = stop or Event()
    if address.live:
        from emotion_runtime.sources.live import LiveSource  # noqa: PLC0415

        limits = limits or LiveLimits()
        return LiveSource(address.name, connect_live(address, limits), limits, stop=stop)
    frames = _frames(address, follow=follow, stop=stop)
    if address.named:
        frames = _renamed(frames, address)
    if not realtime:
        return Source(frames, address.name, stop)
    from emotion_runtime.sources.polled import PacedSource  # noqa: PLC0415

    return PacedSource(frames, address.name, stop)


def _frames(address: Address, *, follow: bool, stop: Event) -> Generator[Frame, None, None]:
    if address.kind == "demo":
        from emotion_runtime.sources import demo  # noqa: PLC0415

        return demo.read_demo()
    from emotion_runtime.sources import file  # noqa: PLC0415

    path = address.uri
    if is_many(path):
        return file.read_files(expand(path))
    return file.read_any(path, follow=follow, stop=stop)


def _renamed(frames: Generator[Frame, None, None], address: Address) -> Generator[Frame, None, None]:
    """Give frames the name of the user, see `name_of_file`."""
    for frame in frames:
        yield replace(frame, source=name_of_file(address, Path(frame.source)))


def connect_live(address: Address, limits: LiveLimits) -> Connect:
    """Return what opens a live source once.

    Raises:
        EmotionError: The URI has a mistake.
    """
    if address.kind == "camera":
        from emotion_runtime.sources.camera import connect_camera  # noqa: PLC0415

        return connect_camera(address.uri)
    if address.kind == "gstreamer":
        from emotion_runtime.sources.gstreamer import connect_gstreamer  # noqa: PLC0415

        return connect_gstreamer(address.uri)
    from emotion_runtime.sources.network import connect_network  # noqa: PLC0415
    from emotion_runtime.sources.network_address import NetworkLimits  # noqa: PLC0415

    return connect_network(address.uri, NetworkLimits(silence=limits.silence))
