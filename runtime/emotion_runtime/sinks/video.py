"""Record the annotated video of every source."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from emotion_runtime.errors import EmotionError
from emotion_runtime.sinks.byte_output import open_locked
from emotion_runtime.sinks.draw import Annotator, Render
from emotion_runtime.sinks.notice import Notices
from emotion_runtime.sinks.outputs import VIDEO_SUFFIXES, next_segment, numbered, segment_name, segments_from
from emotion_runtime.sinks.paint import Image
from emotion_runtime.sinks.video_file import VideoFile, unwritable
from emotion_runtime.types import EmotionEvent, Frame, StatusLine


class VideoSink:
    """Records annotated frames as H.264 in MP4, QuickTime or Matroska, with the sound of files.

    Every frame is shown at its media time, so a source with a varying frame rate is recorded as such.

    Args:
        path: The file. The second source is recorded to OUT-2.mp4, and so on.
        render: Turns a frame (H, W, 3) uint8 BGR and its event into the image to record. None: an
            `Annotator`.
        segment: Seconds of media time after which a new file begins: OUT-0001.mp4, OUT-0002.mp4 ... None: one
            file for each source.
        append: Whether to keep existing files, and go on with the next number. False: they are replaced.
        sound: Whether the sound of files is recorded, too.
        sources: Names of the sources, in order, with their files; None: it is not a file. Others are numbered
            after them, and their names are those of their files.

    Attributes:
        files: The files that were written.

    Raises:
        EmotionError: The suffix is not supported, or the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        render: Render | None = None,
        *,
        segment: float | None = None,
        append: bool = False,
        sound: bool = True,
        sources: Mapping[str, Path | None] | None = None,
    ) -> None:
        self._path = Path(path)
        self._render = render or Annotator()
        self._segment, self._append, self._sound = segment, append, sound
        self._sources = sources or {}
        self._numbers = {name: index + 1 for index, name in enumerate(self._sources)}
        self._notices = Notices()
        self._recordings: dict[str, _Recording] = {}  # by source
        self._closed = False
        self.files: list[Path] = []
        if self._path.suffix.lower() not in VIDEO_SUFFIXES:
            raise EmotionError(
                f"video file {path}: unsupported suffix; expected one of {', '.join(VIDEO_SUFFIXES)}, or "
                "a folder for copies of photos and videos"
            )
        _check_writable(_Recording(self._path, segment, append=append).next_path())

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Record one frame. Always returns True.

        Raises:
            EmotionError: The frame cannot be written, or the recording was closed.
        """
        if self._closed:  # a new file would replace the finished one
            raise EmotionError(f"video file {self._path}: it is closed; make a new VideoSink to record more")
        if frame.source not in self._recordings:
            number = self._numbers.setdefault(frame.source, len(self._numbers) + 1)
            path = numbered(self._path, number)
            file = self._sources.get(frame.source, Path(frame.source)) if self._sound else None
            self._recordings[frame.source] = _Recording(
                path, self._segment, append=self._append, sound_of=file
            )
        recording, image = self._recordings[frame.source], self._render(frame.image, event)
        self._notices.see(replace(frame, image=image))
        if recording.write(image, frame):
            self.files.append(recording.path)
        return True

    def write_status(self, line: StatusLine) -> bool:
        """Record one image that says that no other comes from a source. Always returns True."""
        frame = self._notices.draw(line)
        recording = self._recordings.get(line.source)
        if frame is not None and recording is not None and recording.write(frame.image, frame):
            self.files.append(recording.path)
        return True

    def end(self, source: str) -> None:
        """Finish the file of a source: its encoder holds far more memory than all that is kept of it.

        Raises:
            EmotionError: It cannot be finished.
        """
        if source in self._recordings:
            self._recordings[source].close()

    def close(self) -> None:
        """Finish the files.

        Raises:
            EmotionError: A file cannot be finished; the others are.
        """
        self._closed = True
        recordings, self._recordings = self._recordings, {}
        with ExitStack() as stack:
            for recording in recordings.values():
                stack.callback(recording.close)
        for recording in recordings.values():
            recording.warn_of_older()


class _Recording:
    """The files of one source."""

    def __init__(
        self, path: Path, segment: float | None, *, append: bool = False, sound_of: Path | None = None
    ) -> None:
        self._base = path
        self._sound_of = sound_of
        self._segment = segment
        self._append = append
        self._file: VideoFile | None = None
        self._begin = 0.0  # media time at which the file begins
        self._begun = False
        self._index = next_segment(path) if append else 1
        self.path = path

    def next_path(self) -> Path:
        """Return the file that is written next; a source that comes back does not replace its first file."""
        if self._segment is None and not self._begun and not (self._append and self._base.exists()):
            return self._base
        return segment_name(self._base, self._index)

    def write(self, image: Image, frame: Frame) -> bool:
        """Add the annotated image of a frame. Return whether a new file was begun."""
        t = frame.t
        full = self._segment is not None and not 0 <= t - self._begin < self._segment
        if self._file is not None and full:
            self.close()
        begins = self._file is None
        if self._file is None:
            self.path = self.next_path()
            self._index += 1
            self._begun, self._begin = True, t
            self._file = VideoFile(self.path, (image.shape[1], image.shape[0]), t, self._sound_of)
        self._file.write(image, t)
        return begins

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def warn_of_older(self) -> None:
        """Name the segments of an earlier recording that would be taken for the end of this one."""
        replaces = self._segment is not None and not self._append and self._begun
        older = segments_from(self._base, self._index) if replaces else []
        if older:
            names = f"{older[0].name} to {older[-1].name}" if len(older) > 1 else older[0].name
            logging.getLogger(__name__).warning(
                "%s: of an earlier recording, which had more files; delete what is not wanted any more", names
            )


def _check_writable(path: Path) -> None:
    """Raise an error at the start instead of after the first frame was computed."""
    existed = path.exists()
    try:
        open_locked(path, f"video file {path}").close()
    except OSError as error:
        raise unwritable(path, error) from error
    if not existed:
        path.resolve().unlink()  # of a link, the file that it leads to
