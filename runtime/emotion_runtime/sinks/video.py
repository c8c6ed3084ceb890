"""Write the annotated video to a file."""

import logging
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks.draw import Annotator, Render
from emotion_runtime.sinks.outputs import numbered
from emotion_runtime.sinks.paint import Image
from emotion_runtime.types import EmotionEvent, Frame

_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
_ENCODERS = ("libx264", "libopenh264", "mpeg4")  # browsers play the first two
_TICKS = 90_000  # per second, the usual time base of video
_RATE_HINT = 25  # frames per second, only for the rate control of the encoder: every frame has its own time
_KEY_EVERY = 50  # frames between key frames; a run that is killed loses at most this many
# Playable while incomplete, and an ordinary MP4 once closed.
_MP4_OPTIONS = {"movflags": "hybrid_fragmented+frag_keyframe", "flush_packets": "1"}


class VideoSink:
    """Records annotated frames as H.264 in MP4, QuickTime or Matroska.

    Every frame is shown at its media time, so a source with a varying frame rate is recorded as such.

    Args:
        path: The file, which is overwritten. A second source is recorded to OUT-2.mp4, and so on.
        render: Turns a frame (H, W, 3) uint8 BGR and its event into the image to record. None: an
            `Annotator`.

    Raises:
        EmotionError: The suffix is not supported, or the file cannot be written.
    """

    def __init__(self, path: str, render: Render | None = None) -> None:
        self._path = Path(path)
        self._render = render or Annotator()
        self._writers: dict[str, _Writer] = {}  # by source
        if self._path.suffix.lower() not in _SUFFIXES:
            raise EmotionError(
                f"video file {path}: unsupported suffix; expected one of {', '.join(_SUFFIXES)}"
            )
        _check_writable(self._path)

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Record one frame. Always returns True."""
        if frame.source not in self._writers:
            name = numbered(self._path, len(self._writers) + 1)
            self._writers[frame.source] = _Writer(name, frame)
        self._writers[frame.source].write(self._render(frame.image, event), frame.t)
        return True

    def close(self) -> None:
        """Finish the files.

        Raises:
            EmotionError: A file cannot be finished; the others are.
        """
        writers, self._writers = self._writers, {}
        with ExitStack() as stack:
            for writer in writers.values():
                stack.callback(writer.close)


class _Writer:
    """One file. Its size is that of the first frame, rounded up to even: H.264 halves the colour planes."""

    def __init__(self, path: Path, first: Frame) -> None:
        import av  # noqa: PLC0415 - only a run that records needs it

        self._av = av
        self._path = path
        height, width = first.image.shape[:2]
        self._size = (width, height)
        self._start, self._last_tick = first.t, -1
        options = _MP4_OPTIONS if path.suffix.lower() != ".mkv" else {}
        try:
            self._container = av.open(f"file:{path}", "w", options=options)
            self._stream = self._new_stream()
        except (OSError, av.error.FFmpegError) as error:
            raise _unwritable(path, error) from error

    def _new_stream(self) -> Any:
        name = next(name for name in _ENCODERS if name in self._av.codecs_available)
        if name == _ENCODERS[-1]:
            logging.getLogger(__name__).warning(
                "FFmpeg has no H.264 encoder: %s is MPEG-4 Part 2, which browsers do not play", self._path
            )
        # Quality 21 shows no visible artefacts; `veryfast` leaves the processor to the model.
        options = {"crf": "21", "preset": "veryfast"} if name == "libx264" else {}
        stream: Any = self._container.add_stream(name, rate=_RATE_HINT, options=options)
        stream.width, stream.height = (side + side % 2 for side in self._size)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.codec_context.gop_size = _KEY_EVERY
        # A fragmented file cannot compensate for the delay of reordered frames: all would be shown late.
        stream.codec_context.max_b_frames = 0
        # Stated explicitly; otherwise players assume another standard for large frames and shift the colours.
        stream.codec_context.colorspace = self._av.video.reformatter.Colorspace.SMPTE170M
        return stream

    def write(self, image: Image, t: float) -> None:
        """Add one image at t seconds of media time."""
        if (image.shape[1], image.shape[0]) != self._size:  # a source may change its size; a file cannot
            image = np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        odd_rows, odd_columns = (side % 2 for side in image.shape[:2])
        if odd_rows or odd_columns:
            image = np.pad(image, ((0, odd_rows), (0, odd_columns), (0, 0)), mode="edge")
        encoded = self._av.VideoFrame.from_ndarray(image, format="bgr24")
        # Frames with equal timestamps must still be in increasing order.
        self._last_tick = max(round((t - self._start) * _TICKS), self._last_tick + 1)
        encoded.pts, encoded.time_base = self._last_tick, Fraction(1, _TICKS)
        self._mux(encoded)

    def _mux(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (OSError, self._av.error.FFmpegError) as error:
            raise _unwritable(self._path, error) from error

    def close(self) -> None:
        try:
            self._mux(None)
        finally:
            try:
                self._container.close()
            except (OSError, self._av.error.FFmpegError) as error:
                raise _unwritable(self._path, error) from error


def _check_writable(path: Path) -> None:
    """Raise an error at the start instead of after the first frame was computed."""
    existed = path.exists()
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error
    if not existed:
        path.unlink()


def _unwritable(path: Path, error: OSError | Any) -> EmotionError:
    return EmotionError(
        f"video file {path} cannot be written ({error.strerror}); give a file in an existing folder that you "
        "can write to, with enough free disk space"
    )
