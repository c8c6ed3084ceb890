"""Read many files one after the other, and tell when each is finished."""

import logging
from collections.abc import Callable, Generator, Sequence

from emotion_runtime.errors import EmotionError, SourceBroken
from emotion_runtime.feeds import limited
from emotion_runtime.sources import Address, Source
from emotion_runtime.types import Frame


def in_turn(
    files: Sequence[Address],
    open_file: Callable[[Address], Source],
    finished: Callable[[str], None],
    *,
    seconds: float | None = None,
) -> Generator[Frame, None, None]:
    """Yield the frames of several files. A file that fails does not stop those after it.

    Args:
        files: The files, by their names in results.
        open_file: Opens a file.
        finished: Is called with the name of each file that was read to its end, when the frame after its last
            one is asked for; not if the run stops before.
        seconds: Only the first seconds of each file are read. None: all of it.

    Raises:
        SourceBroken: After the last file, if some could not be read to their ends.
    """
    errors = []
    for file in files:
        try:
            with open_file(file) as source:
                yield from limited(source, seconds, of=file.name)
        except (EmotionError, OSError) as error:  # noqa: PERF203 - opening a file takes much longer
            errors.append(str(error))
            if len(files) > 1:  # now, since the run may be stopped before the end
                logging.getLogger(__name__).warning("%s", error)
        else:
            finished(file.name)
    if errors:
        more = f"{len(errors)} of {len(files)} files failed: " if len(errors) > 1 else ""
        raise SourceBroken(more + "; ".join(errors))
