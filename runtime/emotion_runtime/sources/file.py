"""Video files, pipes and photos."""

import logging
from collections.abc import Generator, Sequence
from pathlib import Path
from threading import Event

from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.media.images import is_image, read_image
from emotion_runtime.media.opening import is_pipe
from emotion_runtime.media.video import open_video
from emotion_runtime.types import Frame


def read_file(path: str, *, follow: bool = False, stop: Event | None = None) -> Generator[Frame, None, None]:
    """Open a video and return all of its frames, in order.

    The video is opened at once. `Frame.t` is the presentation time counted from the start of the medium,
    strictly increasing; `Frame.source` is the path. Frames are upright and have square pixels.

    Args:
        path: A file, a named pipe, or "-" for standard input.
        follow: At the end of a file, wait for more until `stop` is set.
        stop: Ends waiting for a pipe or a growing file.

    Raises:
        EmotionError: The video cannot be opened, or is not a video. While iterating: `SourceBroken`, after
            every frame that can be decoded, if the file is corrupt or truncated.
    """
    try:
        video = open_video(path, follow=follow, stop=stop)
    except EmotionError:
        if stop is not None and stop.is_set():  # while it waited for the first data: that is no failure
            return _nothing()
        raise

    def frames() -> Generator[Frame, None, None]:
        index, t, end = -1, 0.0, 0.0
        try:
            for t, decoded in video.frames():
                index += 1
                end = video.end(t, decoded)
                yield Frame(video.image(decoded), index, t, path)
            if stop is None or not stop.is_set():
                video.check_complete(index, t, end)
        finally:
            video.close()

    return frames()


def _nothing() -> Generator[Frame, None, None]:
    yield from ()


def read_any(path: str, *, follow: bool = False, stop: Event | None = None) -> Generator[Frame, None, None]:
    """Open a video or a photo, to which nothing will be added; see `read_file` and `read_photo`."""
    if not is_pipe(path) and is_image(path):
        return read_photo(path)
    return read_file(path, follow=follow, stop=stop)


def read_photo(path: str) -> Generator[Frame, None, None]:
    """Read a photo and return it as a single frame with `Frame.still`.

    Raises:
        EmotionError: The photo cannot be read.
    """
    image = read_image(path)

    def frames() -> Generator[Frame, None, None]:
        yield Frame(image, 0, 0.0, path, still=True)

    return frames()


def read_files(paths: Sequence[Path]) -> Generator[Frame, None, None]:
    """Yield the frames of several files, one after the other. A file that fails does not stop the others.

    Raises:
        SourceBroken: After the last file, if some could not be read to their ends.
    """
    errors = []
    for path in paths:
        try:
            yield from read_any(str(path))
        except (EmotionError, OSError) as error:  # noqa: PERF203 - opening a file takes much longer
            errors.append(str(error))
            if len(paths) > 1:  # now, since the run may be stopped before the end
                logging.getLogger(__name__).warning("%s", error)
    if errors:
        others = f" (and {len(errors) - 1} more of {len(paths)} files failed)" if len(errors) > 1 else ""
        raise SourceBroken(errors[0] + others)
