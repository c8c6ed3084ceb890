"""Read videos: every frame in order, with its time and as an upright image of square pixels."""

import logging
from collections.abc import Iterator
from threading import Event
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from emotion_runtime.errors import SourceBroken
from emotion_runtime.media.animation import Animation, is_animated_webp
from emotion_runtime.media.geometry import Geometry, deinterlaced
from emotion_runtime.media.opening import is_pipe, media_start, open_container, video_stream
from emotion_runtime.media.streams import Pipe
from emotion_runtime.media.truncation import has_late_index, missing_part

_LOG = logging.getLogger(__name__)
_DEFAULT_RATE = 25.0  # frames per second, for a file without timestamps


def open_video(path: str, *, follow: bool = False, stop: Event | None = None) -> "Video | Animation":
    """Open a video of any kind; see `Video`."""
    if not follow and not is_pipe(path) and is_animated_webp(path):
        return Animation(path)
    return Video(path, follow=follow, stop=stop)


class Video:
    """An open video, which the user closes.

    Times are seconds from the start of the medium, as players count them: if the sound begins earlier, the
    first frame has a time above 0.

    Args:
        path: A file, a named pipe, or "-" for standard input.
        follow: At the end of a file, wait for more.
        stop: Ends waiting for a pipe or a growing file.

    Attributes:
        step: Nominal time between two frames, in seconds.
        damage: What FFmpeg said about the first packet that cannot be decoded; "" if all could be so far.
        irregular: Whether a time had to be replaced: then times after `seek` are not those from the start.
        interlaced: Whether a frame so far was interlaced: after `seek`, the first two are of less quality.

    Raises:
        EmotionError: It cannot be opened, or is not a video.
    """

    def __init__(self, path: str, *, follow: bool = False, stop: Event | None = None) -> None:
        self._path = path
        self._follow = follow
        self._opened = open_container(path, follow=follow, stop=stop)
        self._container = self._opened.container
        self._stream = video_stream(self._container)
        self._geometry = Geometry(self._stream)
        self._start = media_start(self._container)
        self.step = 1 / float(self._stream.average_rate or _DEFAULT_RATE)
        self.damage = ""
        # AVI has times of decoding only, which do not say when reordered frames are shown.
        self.irregular = self._container.format.name == "avi" and self._stream.codec_context.has_b_frames
        self.interlaced = False
        self._read = 0  # intact packets
        self._corrupt = 0  # frames that FFmpeg could repair only in part

    def close(self) -> None:
        """Release the file; safe to call twice."""
        self._opened.close()

    def frames(self) -> Iterator[tuple[float, Any]]:
        """Decode the frames that follow, each with its time, which is at least 0 and strictly increases.

        A timestamp that is missing or does not increase is replaced by the nominal one.

        Yields:
            The time, and the decoded frame, of which `image` makes an image.
        """
        last = -self.step
        for decoded in deinterlaced(self._decodable()):
            stated = self.stated_time(decoded)
            if stated is None or max(stated, 0.0) <= last:
                self.irregular = True
                last += self.step
            else:
                last = max(stated, 0.0)
            yield last, decoded

    def stated_time(self, decoded: Any) -> float | None:
        """Return the time of a frame as the file states it, in seconds; None if it states none."""
        if decoded.time is None:
            return None
        if self._start is None:  # the file does not state when it starts
            self._start = float(decoded.time)
        return float(decoded.time) - self._start

    def seek(self, t: float) -> bool:
        """Continue at the last key frame before a time, if the file's index is good. False: it has none."""
        try:
            self._container.seek(
                int((t + (self._start or 0.0)) / self._stream.time_base), stream=self._stream
            )
        except av.error.FFmpegError:
            return False
        return True

    def stated_end(self) -> float:
        """Return the end that the header states, in seconds, which may be wrong; 0 if it states none."""
        if self._stream.duration:
            return float(self._stream.duration * self._stream.time_base)
        return float(self._container.duration or 0) / av.time_base

    def image(self, decoded: Any) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 BGR, upright and of square pixels."""
        return self._geometry.image(decoded)

    def end(self, t: float, decoded: Any) -> float:
        """Return the time at which a frame that is shown at t ends."""
        return t + (float(decoded.duration * decoded.time_base) if decoded.duration else self.step)

    def check_complete(self, index: int, t: float, end: float) -> None:
        """Check after the last frame that all of the video was read.

        A length that differs from the header's is logged only: cut files and live recordings state others.

        Args:
            index: Number of the last frame; -1 if there was none.
            t: Its time, in seconds.
            end: The time at which it ends.

        Raises:
            SourceBroken: The file is truncated or corrupt, or has no frame.
        """
        reason = ""
        file, data, kind = self._opened.file, self._opened.data, self._container.format.name
        # An MP4 or AVI whose every listed frame was read is complete, whatever its boxes say.
        all_read = _lists_frames(kind) and 0 < self._stream.frames <= self._read
        fix = "get a complete copy of it"
        if file and not all_read and (part := missing_part(file, kind)):
            reason = f"is truncated ({part})"
        elif self.damage and isinstance(data, Pipe) and has_late_index(data.start):
            reason = "has its index at its end, and a pipe is read only once"
            fix = "give the file itself, or write it with ffmpeg ... -movflags +faststart, or as -f mpegts"
        elif self.damage:
            reason = f"is corrupt ({self.damage})"
        elif index < 0:
            reason = "contains no frame that can be decoded"
        if reason:
            where = f"after frame {index} ({t:.2f} s)" if index >= 0 else "before its first frame"
            if self._follow and index < 0 and not isinstance(data, Pipe):
                fix = "--follow needs .ts, .mkv or fragmented .mp4; omit it for a file that is complete"
            raise SourceBroken(f"source {self._path} failed {where}: the file {reason}; {fix}")
        if self._corrupt:
            _LOG.warning(
                "%s: %d of %d frames are damaged and were shown as far as they could be decoded",
                self._path, self._corrupt, index + 1,
            )  # fmt: skip
        stated = float((self._stream.duration or 0) * self._stream.time_base)
        if abs(stated - end) > max(1.0, 0.05 * stated) and stated:
            _LOG.info("%s: its header states %.1f s, and its frames end at %.1f s", self._path, stated, end)

    def _decodable(self) -> Iterator[Any]:
        """Yield every frame that can be decoded, and note the first error."""
        packets = self._container.demux(self._stream)
        begun = False
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
            except (OSError, ValueError, av.error.FFmpegError) as error:  # nothing follows
                self.damage = self.damage or _reason(error)
                return
            self._read += bool(packet.size) and not packet.is_corrupt
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:  # one packet is corrupt: later ones may be intact
                # What comes before the first key frame cannot be decoded, however intact.
                if begun:
                    self.damage = self.damage or _reason(error)
                continue
            for decoded in frames:
                begun = True
                self._corrupt += bool(decoded.is_corrupt)
                self.interlaced = self.interlaced or bool(decoded.interlaced_frame)
                yield decoded


def _lists_frames(kind: str) -> bool:
    return kind == "avi" or "mp4" in kind.split(",")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
