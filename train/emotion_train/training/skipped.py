"""Clips that cannot be read while a run trains: they are named and counted, and too many end the run."""

import json
import logging
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from emotion_runtime.errors import EmotionError
from emotion_train.batch import SkippedClip

SKIPPED = "skipped.jsonl"

_log = logging.getLogger(__name__)


class SkippedClips:
    """The clips that a run has skipped, each counted once over all its processes and resumptions.

    All processes append to one file and count what is in it, so that the count does not depend on their
    number.

    Args:
        path: JSONL file with a line for each clip.
        limit: Most clips that the run may skip.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path, self.limit = path, limit
        self._keys: set[str] = set()

    def add(self, skipped: Iterable[SkippedClip]) -> None:
        """Record clips, and warn about those that are new.

        Raises:
            EmotionError: There are more than the limit allows.
        """
        for clip in skipped:
            if clip.key in self._keys:
                continue
            self._keys.update(skipped_keys(self.path))  # other processes write to it, too
            if clip.key in self._keys:
                continue
            self._keys.add(clip.key)
            line = json.dumps({"clip": clip.key, "reason": clip.reason})
            # A process that was killed may have left half a line; empty lines are ignored.
            separator = "\n" if self.path.is_file() else ""
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{separator}{line}\n")
            _log.warning("skipped clip %s (%d so far): %s", clip.key, len(self._keys), clip.reason)
            if len(self._keys) > self.limit:
                raise EmotionError(
                    f"{len(self._keys)} clips cannot be read, expected at most {self.limit} "
                    f"(clips.skip_limit); they are listed in {self.path}; the last: {clip.reason}"
                )


def skipped_keys(path: Path) -> list[str]:
    """Return the names of the clips in a file of skipped clips, without repetitions, in order."""
    if not path.is_file():
        return []
    keys = []
    for line in path.read_text(encoding="utf-8").splitlines():
        # An incomplete line is of a process that was killed while writing; the clip is met again.
        with suppress(json.JSONDecodeError):
            keys.append(str(json.loads(line)["clip"]))
    return list(dict.fromkeys(keys))
