"""Events as JSON lines."""

import os
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from emotion_runtime.errors import EmotionError
from emotion_runtime.types import EmotionEvent, Frame, Person

# Decimals kept: more would be noise; probabilities have enough for their sum to be 1 to the seventh.
_PIXELS, _SCORES, _SECONDS, _MILLISECONDS = 2, 8, 6, 3


class JsonlSink:
    """Writes one line an event, flushed at once: killed at any moment, all but the last line parse.

    path: of a file, which is overwritten, or "-" for standard output.

    Raises:
        EmotionError: the file cannot be written, now or later (a full disk).

    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._encoder = msgspec.json.Encoder()
        self._is_stdout = path == "-"
        self._file: BinaryIO
        if self._is_stdout:
            self._file = sys.stdout.buffer
            return
        try:
            self._file = Path(path).open("wb")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise EmotionError(
                f"JSONL file {path} cannot be written ({error.strerror}); give a path in a folder that "
                "exists and that you may write to, or - for standard output"
            ) from error

    def write(self, frame: Frame, event: EmotionEvent) -> bool:  # noqa: ARG002 - the Protocol's
        """Write one line. False: the reader of the pipe has gone (`| head`)."""
        try:
            self._file.write(self._encoder.encode(_rounded(event)) + b"\n")
            self._file.flush()
        except BrokenPipeError:
            if self._is_stdout:
                # Else the interpreter would flush the dead pipe once more at exit, and complain.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return False
        except OSError as error:
            raise self._cut_short(error) from error
        return True

    def close(self) -> None:
        """Close the file; standard output stays open.

        Raises:
            EmotionError: what was still held back cannot be written.

        """
        if self._is_stdout:
            return
        try:
            self._file.close()
        except OSError as error:
            raise self._cut_short(error) from error

    def _cut_short(self, error: OSError) -> EmotionError:
        return EmotionError(
            f"JSONL file {self._path} cannot be written on ({error.strerror}); make room and run again"
        )


def _rounded(event: EmotionEvent) -> EmotionEvent:
    return msgspec.structs.replace(
        event,
        t=round(event.t, _SECONDS),
        latency_ms=round(event.latency_ms, _MILLISECONDS),
        persons=[_rounded_person(person) for person in event.persons],
    )


def _rounded_person(person: Person) -> Person:
    x1, y1, x2, y2 = (round(side, _PIXELS) for side in person.box)
    return msgspec.structs.replace(
        person,
        box=(x1, y1, x2, y2),
        score=round(person.score, _SCORES),
        emotions=_rounded_values(person.emotions),
        raw=_rounded_values(person.raw),
        valence=_rounded_or_none(person.valence),
        arousal=_rounded_or_none(person.arousal),
        dominance=_rounded_or_none(person.dominance),
    )


def _rounded_values(values: dict[str, float]) -> dict[str, float]:
    return {label: round(value, _SCORES) for label, value in values.items()}


def _rounded_or_none(value: float | None) -> float | None:
    return None if value is None else round(value, _SCORES)
