"""Copy the sound of a file into a recording of its video."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from emotion_runtime.media.opening import file_url, media_start

_LOG = logging.getLogger(__name__)
_AAC = "aac"
# What players accept in MP4; other sound is encoded anew. Matroska holds everything.
_COPIED = {"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"}


def open_sound(source: str, output: Any, start: float) -> "Sound | None":
    """Add the sound of a source to a container that is open for writing.

    Call it after the video stream was added and before the first packet is muxed.

    Args:
        source: Name of the source. Only a file can have sound.
        output: Where the sound goes, a container of PyAV; its time 0 is `start`.
        start: `Frame.t` of the first frame that is recorded, in seconds.

    Returns:
        The sound; None if the source is not a file, or has none.
    """
    if not Path(source).is_file():
        return None
    try:
        container = av.open(file_url(source))
    except (OSError, av.error.FFmpegError):
        return None
    stream = container.streams.best("audio")
    if stream is None or stream.codec_context is None:
        container.close()
        return None
    return Sound(source, container, stream, output, start)


class Sound:
    """Sound on its way from a file to a recording. Errors end the sound, never the recording."""

    def __init__(self, source: str, container: Any, stream: Any, output: Any, start: float) -> None:
        self._source = source
        self._container = container
        self._output = output
        copies = stream.codec_context.name in _COPIED or "matroska" in output.format.name
        if copies:
            self._stream = output.add_stream_from_template(stream)
        else:
            self._stream = output.add_stream(_AAC, rate=stream.codec_context.sample_rate)
        self._offset = (
            media_start(container) or 0.0
        ) + start  # seconds in the file at which the recording begins
        self._packets = self._copied(stream) if copies else self._encoded(stream)
        self._ahead: tuple[float, Any] | None = None  # the next packet and its time in the recording

    def write_until(self, t: float) -> None:
        """Mux the sound that begins before t seconds of the recording.

        Raises:
            OSError: The recording cannot be written, as for its video (an error of PyAV may be another).
        """
        while self._ahead is not None or self._read():
            if self._ahead is None or self._ahead[0] >= t:
                return
            packet, self._ahead = self._ahead[1], None
            self._output.mux(packet)

    def _read(self) -> bool:
        """Read the next packet to `_ahead`; return False if there is none."""
        try:
            self._ahead = next(self._packets, None)
        except (OSError, ValueError, av.error.FFmpegError) as error:
            _LOG.warning("the sound of %s cannot be read any further (%s)", self._source, error)
            self._packets = iter(())
        return self._ahead is not None

    def close(self) -> None:
        """Release the file; safe to call twice."""
        self._packets = iter(())
        self._container.close()

    def _copied(self, stream: Any) -> Iterator[tuple[float, Any]]:
        last = -1
        for packet in self._container.demux(stream):
            if packet.pts is None or packet.is_discard:
                continue
            ticks = packet.pts - round(self._offset / packet.time_base)
            if ticks <= last:  # before the recording, or a time that a muxer refuses
                continue
            last = packet.pts = packet.dts = ticks
            packet.stream = self._stream
            yield float(ticks * packet.time_base), packet

    def _encoded(self, stream: Any) -> Iterator[tuple[float, Any]]:
        resampler = av.AudioResampler("fltp", stream.layout, stream.codec_context.sample_rate)
        last = -1
        for decoded in self._container.decode(stream):
            if decoded.pts is None:
                continue
            decoded.pts -= round(self._offset / decoded.time_base)
            if decoded.pts <= last:
                continue
            last = decoded.pts
            for frame in resampler.resample(decoded):
                yield from self._timed(self._stream.encode(frame))
        yield from self._timed(self._stream.encode(None))

    @staticmethod
    def _timed(packets: list[Any]) -> Iterator[tuple[float, Any]]:
        for packet in packets:
            if packet.pts >= 0:  # one before 0 would make the muxer shift the video
                yield float(packet.pts * packet.time_base), packet
