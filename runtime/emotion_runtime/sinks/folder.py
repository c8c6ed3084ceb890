"""Write an annotated copy of every photo and video into a folder, under the same names."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import cv2

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import make_folder, write_atomically
from emotion_runtime.sinks.draw import Annotator, Render
from emotion_runtime.sinks.outputs import VIDEO_SUFFIXES
from emotion_runtime.sinks.video import VideoSink
from emotion_runtime.types import EmotionEvent, Frame, StatusLine

_LOSSLESS_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
_PHOTO_SUFFIXES = (".jpg", ".jpeg", ".webp", *_LOSSLESS_SUFFIXES)  # what OpenCV always writes
_LARGEST_JPEG = 65_500  # pixels of a side
_JPEG_QUALITY = 95


class FolderSink:
    """Writes annotated copies of photos and videos into a folder, which is created.

    A photo keeps its name and its format; one in a format that cannot be written becomes a JPEG, or a PNG if
    it is too large for that. A video keeps its name if its format can be written, and becomes an MP4
    otherwise. Sources that are not files are recorded under their names. The second file of a name gets a
    number.

    Args:
        folder: The folder.
        render: Turns a frame (H, W, 3) uint8 BGR and its event into the image to write. None: an `Annotator`.
        segment: See `VideoSink`.
        sound: See `VideoSink`.
        append: Whether to keep existing files, and give new ones a number. False: they are replaced.
        sources: See `VideoSink`.

    Attributes:
        files: The files that were written.

    Raises:
        EmotionError: The folder cannot be created. `write` raises it if a file cannot be written, or would
            replace its own source.
    """

    def __init__(
        self,
        folder: str | Path,
        render: Render | None = None,
        *,
        segment: float | None = None,
        append: bool = False,
        sound: bool = True,
        sources: Mapping[str, Path | None] | None = None,
    ) -> None:
        self._folder = Path(folder)
        self._render = render or Annotator()
        self._new_video = partial(VideoSink, segment=segment, append=append, sound=sound)
        self._append, self._sources = append, sources or {}
        self._used: set[Path] = set()
        self._videos: dict[str, VideoSink] = {}  # by source, until it ends
        self._written: list[Path] = []
        make_folder(self._folder)

    @property
    def files(self) -> list[Path]:
        """The files that were written."""
        return [*self._written, *(path for video in self._videos.values() for path in video.files)]

    def write(self, frame: Frame, event: EmotionEvent) -> bool:
        """Write a photo, or one frame of a video. Always returns True."""
        if frame.still:
            self._write_photo(frame, event)
            return True
        if frame.source not in self._videos:
            path = self._path_for(frame.source, VIDEO_SUFFIXES, ".mp4")
            self._videos[frame.source] = self._new_video(
                path, self._render, sources={frame.source: self._file_of(frame.source)}
            )
        return self._videos[frame.source].write(frame, event)

    def _file_of(self, source: str) -> Path | None:
        return self._sources.get(source, Path(source))

    def _write_photo(self, frame: Frame, event: EmotionEvent) -> None:
        """Write a photo; one that is too large for JPEG becomes a PNG."""
        if max(frame.image.shape[:2]) > _LARGEST_JPEG:
            path = self._path_for(frame.source, _LOSSLESS_SUFFIXES, ".png")
        else:
            path = self._path_for(frame.source, _PHOTO_SUFFIXES, ".jpg")
        is_jpeg = path.suffix.lower() in (".jpg", ".jpeg")
        options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if is_jpeg else []
        _, encoded = cv2.imencode(path.suffix, self._render(frame.image, event), options)
        write_atomically(path, encoded.tobytes())
        self._written.append(path)

    def write_status(self, line: StatusLine) -> bool:
        """Record that no image comes from a source, see `VideoSink`. Always returns True."""
        video = self._videos.get(line.source)
        return video is None or video.write_status(line)

    def end(self, source: str) -> None:
        """Finish the video of a source.

        Raises:
            EmotionError: It cannot be finished.
        """
        video = self._videos.pop(source, None)
        if video is not None:
            try:
                video.close()
            finally:
                self._written += video.files

    def close(self) -> None:
        """Finish the videos.

        Raises:
            EmotionError: A video cannot be finished; the others are.
        """
        with ExitStack() as stack:
            for source in reversed(self._videos):
                stack.callback(self.end, source)

    def _path_for(self, source: str, suffixes: Sequence[str], otherwise: str) -> Path:
        """Return a name that no other source of this run has.

        Raises:
            EmotionError: The copy would replace its source.
        """
        name, file = Path(Path(source).name or "source"), self._file_of(source)
        if name.suffix.lower() not in suffixes:
            # The last part of 10.0.0.7, the name of a stream, is no suffix.
            is_suffix = file is not None and file.exists() and file.suffix == name.suffix
            stem = name.stem if is_suffix else name.name
            name = name.with_name(f"{stem}{otherwise}")
        path, number = self._folder / name, 1
        while path in self._used or (self._append and path.exists()):
            number += 1
            path = self._folder / f"{name.stem}-{number}{name.suffix}"
        if path.exists() and file is not None and file.exists() and path.samefile(file):
            raise EmotionError(
                f"the annotated copy of {source} would replace it: give --record another folder"
            )
        self._used.add(path)
        return path
