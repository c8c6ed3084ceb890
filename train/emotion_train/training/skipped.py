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
    """The clips that a run has skipped, each counted once, also over resumptions.

    Each process counts its own, and all append to one file.

    Args:
        path: JSONL file with a line for each clip.
        limit: Most clips that may be skipped.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path, self.limit = path, limit
        self._keys = set(skipped_keys(path))
        # A process that was killed may have left half a line.
        self._separator = "\n" if path.is_file() else ""

    def add(self, skipped: Iterable[SkippedClip]) -> None:
        """Record clips, and warn about those that are new.

        Raises:
            EmotionError: There are more than the limit allows.
        """
        for clip in skipped:
            if clip.key in self._keys:
                continue
            self._keys.add(clip.key)
            line = json.dumps({"clip": clip.key, "reason": clip.reason})
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{self._separator}{line}\n")
            self._separator = ""
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
