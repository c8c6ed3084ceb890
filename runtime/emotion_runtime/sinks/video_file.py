"""Write one file of annotated video."""

import logging
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from emotion_runtime.errors import EmotionError
from emotion_runtime.media.sound import open_sound
from emotion_runtime.sinks.byte_output import deleted, open_locked
from emotion_runtime.sinks.paint import Image

_ENCODERS = ("libx264", "libopenh264", "mpeg4")  # browsers play the first two
# Quality 21 shows no visible artefacts; `veryfast` leaves the processor to the model. A short lookahead, and
# slices instead of frames as threads, delay a frame by four others at most: a run that is killed loses them.
_X264 = {
    "crf": "21",
    "preset": "veryfast",
    "x264-params": "rc-lookahead=3:sync-lookahead=0:sliced-threads=1",
}
_TICKS = 90_000  # per second, the usual time base of video
_RATE_HINT = 25  # frames per second, only for the rate control of the encoder: every frame has its own time
_KEY_EVERY = 50  # frames between key frames, to which players jump
# Playable while incomplete, and an ordinary MP4 once closed.
_MP4_OPTIONS = {"movflags": "hybrid_fragmented+frag_every_frame", "flush_packets": "1"}
_MKV_OPTIONS = {"cluster_time_limit": "200", "flush_packets": "1"}
_BT709 = 1  # number of the standard for matrix, primaries and transfer in H.273
_LIMITED_RANGE = 1  # number of the range 16 to 235 in FFmpeg


class VideoFile:
    """One file. Its size is that of the first frame, rounded up to even: H.264 halves the colour planes.

    Args:
        path: The file, which is replaced.
        size: Width and height of the first frame.
        start: Media time of the first frame, in seconds.
        sound_of: File whose sound is recorded, too, if it has some. None: no sound.

    Raises:
        EmotionError: The file cannot be written, or another run writes into it.
    """

    def __init__(self, path: Path, size: tuple[int, int], start: float, sound_of: Path | None = None) -> None:
        self._path = path
        self._size = size
        self._start, self._last_tick = start, -1
        self._failed = False
        self._converter = VideoReformatter()  # one for all frames: each of its own would start threads
        try:
            self._lock = open_locked(path, f"video file {path}")
            self._container = av.open(f"file:{path}", "w", options=_options(path))
            self._stream = self._new_stream()
            self._sound = open_sound(str(sound_of), self._container, start) if sound_of else None
        except (OSError, av.error.FFmpegError) as error:
            raise unwritable(path, error) from error

    def _new_stream(self) -> Any:
        name = next(name for name in _ENCODERS if name in av.codecs_available)
        if name == _ENCODERS[-1]:
            logging.getLogger(__name__).warning(
                "FFmpeg has no H.264 encoder: %s is MPEG-4 Part 2, which browsers do not play", self._path
            )
        stream: Any = self._container.add_stream(
            name, rate=_RATE_HINT, options=_X264 if name == "libx264" else {}
        )
        stream.width, stream.height = (side + side % 2 for side in self._size)
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.time_base = Fraction(1, _TICKS)
        codec.gop_size = _KEY_EVERY
        # A fragmented file cannot compensate for the delay of reordered frames: all would be shown late.
        codec.max_b_frames = 0
        # Stated explicitly; otherwise players guess the standard from the size and shift the colours.
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        codec.color_range = _LIMITED_RANGE
        return stream

    def write(self, image: Image, t: float) -> None:
        """Add one image (H, W, 3) uint8 BGR at t seconds of media time.

        Raises:
            EmotionError: It cannot be written, for example on a full disk.
        """
        if (image.shape[1], image.shape[0]) != self._size:  # a source may change its size; a file cannot
            image = letterboxed(image, *self._size)
        odd_rows, odd_columns = (side % 2 for side in image.shape[:2])
        if odd_rows or odd_columns:
            image = np.pad(image, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
        encoded = self._converter.reformat(
            av.VideoFrame.from_ndarray(image, format="bgr24"),
            format="yuv420p",
            dst_colorspace=_BT709,
            dst_color_range=_LIMITED_RANGE,
        )
        # Frames with equal timestamps must still be in increasing order.
        self._last_tick = max(round((t - self._start) * _TICKS), self._last_tick + 1)
        encoded.pts, encoded.time_base = self._last_tick, Fraction(1, _TICKS)
        self._mux(encoded)
        self._mux_sound(t - self._start)

    def _mux(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (OSError, av.error.FFmpegError) as error:
            self._fail(error)

    def _mux_sound(self, until: float) -> None:
        if self._sound is None:
            return
        try:
            self._sound.write_until(until)
        except (OSError, av.error.FFmpegError) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> NoReturn:
        # FFmpeg's writer of MP4 crashes the process if it is used after it failed to write the header.
        self._failed = True
        raise unwritable(self._path, error) from error

    def close(self) -> None:
        """Finish the file; after a failure, close it as it is. Safe to call twice.

        Raises:
            EmotionError: The end of the file cannot be written, or the file was deleted meanwhile.
        """
        if self._lock.closed:
            return
        try:
            if self._failed:
                with suppress(OSError, av.error.FFmpegError):
                    self._container.close()
                return
            try:
                self._mux(None)
            finally:
                try:
                    self._container.close()
                except (OSError, av.error.FFmpegError) as error:
                    self._fail(error)
            if deleted(self._lock):
                raise EmotionError(f"video file {self._path}: it was deleted during the run; run again")
        finally:
            if self._sound is not None:
                self._sound.close()
            self._lock.close()


def letterboxed(image: Image, width: int, height: int) -> Image:
    """Return an image of the given size that shows all of another one, in its proportions, on black.

    Args:
        image: (H, W, 3) uint8 BGR.
        width: Width of the result.
        height: Height of the result.
    """
    scale = min(width / image.shape[1], height / image.shape[0])
    inner = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
    resized = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = np.zeros((height, width, 3), np.uint8)
    x, y = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas[y : y + inner[1], x : x + inner[0]] = resized
    return canvas


def unwritable(path: Path, error: OSError | Any) -> EmotionError:
    """Return the error for a file that cannot be written."""
    return EmotionError(
        f"video file {path} cannot be written ({error.strerror}); give a file in a folder that you "
        "can write to, with enough free disk space"
    )


def _options(path: Path) -> dict[str, str]:
    return _MKV_OPTIONS if path.suffix.lower() == ".mkv" else _MP4_OPTIONS
