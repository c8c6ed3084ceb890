"""Backends with given times, and the file that keeps them."""

import time
from pathlib import Path

from emotion_runtime import backend_times
from emotion_runtime.backends.base import Backend, Feeds, Outputs, count_persons
from emotion_runtime.errors import EmotionError
from emotion_runtime.fastest_backend import TimedChoice, TimedWay


class Stand:
    """A backend that takes its time; a wrong one negates all outputs."""

    def __init__(self, name: str, backend: Backend, seconds: float, *, wrong: bool) -> None:
        self.name, self.description = name, f"stand-in for {name}"
        self._backend, self._seconds, self._wrong = backend, seconds, wrong

    def run(self, feeds: Feeds) -> Outputs:
        time.sleep(self._seconds)
        outputs = self._backend.run(feeds)
        return {name: -value if self._wrong else value for name, value in outputs.items()}

    def close(self) -> None:
        """Do nothing."""


class Closing(Stand):
    """A backend that runs out of memory with more than two people, and counts how often it is closed."""

    closed = 0

    def run(self, feeds: Feeds) -> Outputs:
        if count_persons(feeds) > backend_times.PERSONS:
            raise EmotionError("out of memory")
        return super().run(feeds)

    def close(self) -> None:
        Closing.closed += 1


SECONDS = {"cpu": 0.02, "openvino": 0.0, "cuda": 0.0}
FAST, SLOW = TimedWay("openvino", 1, 1.0), TimedWay("cpu", 1, 2.0)


def backends(choice: TimedChoice | None) -> set[str]:
    assert choice is not None
    return {way.backend for way in choice.encoders}


def only_file(folder: Path) -> Path:
    (file,) = (folder / "cache").glob("backend-*.json")
    return file
