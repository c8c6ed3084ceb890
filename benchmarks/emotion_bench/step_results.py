"""The results of one step of the GPU benchmark, kept on disk while they are made."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from emotion_bench.report import write_json
from emotion_runtime.errors import EmotionError


class Recorder:
    """The results of a step, in a file that is complete after every addition."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.result: dict[str, Any] = {
            "rows": [],
            "parity": [],
            "pipeline": [],
            "checks": [],
            "ceilings": {},
            "machine": {},
            "skipped": [],
            "failed": [],
        }
        self.save()

    def save(self) -> None:
        """Write the file."""
        write_json(self.path, self.result)

    def add(self, kind: str, item: dict[str, Any]) -> None:
        """Keep one item."""
        self.result[kind].append(item)
        self.save()

    def measure(self, what: str, items: Iterable[dict[str, Any]], kind: str = "rows", **about: Any) -> None:
        """Keep items as they are made; what is not available is skipped, and what breaks has failed."""
        try:
            for item in items:
                self.add(kind, about | item)
        except (EmotionError, RuntimeError, MemoryError) as error:  # missing, or no memory for it
            self.add("skipped", {"what": what, "reason": _line(error)})
        except Exception as error:  # noqa: BLE001 - the rest of the step is worth more than one traceback
            self.add("failed", {"what": what, "reason": f"{type(error).__name__}: {_line(error)}"})

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Note an exception of the block as a failure, and go on after it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - as above
            self.add("failed", {"what": what, "reason": f"{type(error).__name__}: {_line(error)}"})


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]
