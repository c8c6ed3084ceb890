"""Write events as JSON lines."""

import os
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from emotion_runtime.errors import EmotionError
from emotion_runtime.types import EmotionEvent, Frame, Person, Quality

# Decimals kept: more would be noise. Probabilities still sum to 1 within 1e-7.
_PIXELS, _SCORES, _SECONDS, _MILLISECONDS, _QUALITIES = 2, 8, 6, 3, 3


class JsonlSink:
    """Writes one line per event and flushes it, so that all lines but the last one parse even after a kill.

    Args:
        path: The file, which is overwritten, or "-" for standard output.

    Raises:
        EmotionError: The file cannot be written. `write` and `close` raise it too, for example on a full
            disk.
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
                f"JSONL file {path} cannot be written ({error.strerror}); give a file in an existing folder "
                "that you can write to, or - for standard output"
            ) from error

    def write(self, frame: Frame, event: EmotionEvent) -> bool:  # noqa: ARG002 - part of the Protocol
        """Write one line. Return False if the reader of the pipe is gone (`| head`)."""
        try:
            self._file.write(self._encoder.encode(_rounded(event)) + b"\n")
            self._file.flush()
        except BrokenPipeError:
            if self._is_stdout:
                # Otherwise the interpreter would flush the closed pipe again at exit, and print an error.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return False
        except OSError as error:
            raise self._write_failed(error) from error
        return True

    def close(self) -> None:
        """Close the file; standard output stays open.

        Raises:
            EmotionError: The last buffered data cannot be written.
        """
        if self._is_stdout:
            return
        try:
            self._file.close()
        except OSError as error:
            raise self._write_failed(error) from error

    def _write_failed(self, error: OSError) -> EmotionError:
        return EmotionError(
            f"JSONL file {self._path}: write failed ({error.strerror}); free disk space and run again"
        )


def _rounded(event: EmotionEvent) -> EmotionEvent:
    return msgspec.structs.replace(
        event,
        t=round(event.t, _SECONDS),
        time=msgspec.UNSET if event.time is None else event.time,  # UNSET is left out of the line
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
        quality=None if person.quality is None else _rounded_quality(person.quality),
        filled=round(person.filled, _QUALITIES),
        valence=_rounded_or_none(person.valence),
        arousal=_rounded_or_none(person.arousal),
        dominance=_rounded_or_none(person.dominance),
    )


def _rounded_quality(quality: Quality) -> Quality:
    measured = msgspec.structs.asdict(quality).items()
    return msgspec.structs.replace(
        quality, **{name: round(value, _QUALITIES) for name, value in measured if value is not None}
    )


def _rounded_values(values: dict[str, float]) -> dict[str, float]:
    return {label: round(value, _SCORES) for label, value in values.items()}


def _rounded_or_none(value: float | None) -> float | None:
    return None if value is None else round(value, _SCORES)
