"""Go through published videos, and find and link published files: what the preparations share."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from tqdm import tqdm

from emotion_runtime.errors import EmotionError
from emotion_runtime.files import WriteError

_log = logging.getLogger(__name__)


def prepare_each(
    videos: Mapping[str, Path | None], prepare: Callable[[str, Path], object], what: str
) -> Counter[str]:
    """Prepare every video; one that is missing is counted, one that cannot be read is named as well.

    Args:
        videos: The file of each video by name, None where it was not found.
        prepare: Called with name and file.
        what: Name for the progress bar.

    Returns:
        The number of videos by outcome.

    Raises:
        EmotionError: The result cannot be written.
    """
    outcomes: Counter[str] = Counter()
    for name, video in tqdm(videos.items(), desc=what, unit="video", disable=None):
        if video is None or not video.is_file():
            outcomes["without a video"] += 1
            continue
        try:
            prepare(name, video)
        except WriteError:
            raise
        except EmotionError as error:
            _log.warning("%s is left out: %s", name, error)
            outcomes["unreadable"] += 1
        else:
            outcomes["prepared"] += 1
    return outcomes


def link(source: Path, place: Path) -> None:
    """Make `place` a link to a folder, if there is nothing yet.

    Raises:
        EmotionError: The disk has no links or cannot be written, or there is a link to nothing.
    """
    if place.exists():
        return
    if place.is_symlink():
        raise EmotionError(
            f"{place} is a link to {place.readlink()}, which is not there any more: remove the link"
        )
    try:
        place.symlink_to(source.resolve(), target_is_directory=True)
    except OSError as error:
        raise EmotionError(
            f"{place} cannot be made a link to {source} ({error.strerror}): copy the folder there, or "
            "choose a folder on another disk"
        ) from error
