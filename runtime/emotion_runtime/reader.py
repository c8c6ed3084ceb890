"""Read events, and the lines between them, back from JSON lines."""

import codecs
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from emotion_runtime.errors import EmotionError
from emotion_runtime.types import SCHEMA_VERSION, EmotionEvent, RunLine, StatusLine

OLDEST = 1  # schema 1 has neither `type` nor `time` in a line, nor `why`, `quality` and `filled` in a person

_NOT_TEXT = {
    codecs.BOM_UTF16_LE: "in UTF-16",
    codecs.BOM_UTF16_BE: "in UTF-16",
    b"\x1f\x8b": "compressed (gzip)",
    b"PK": "compressed (zip)",
}

Line = RunLine | EmotionEvent | StatusLine

_TYPES: Mapping[str, Any] = {"run": RunLine, "frame": EmotionEvent, "status": StatusLine}


def read_events(path: str | Path) -> Iterator[EmotionEvent]:
    """Yield the events of a file that `--jsonl` wrote, of this or the previous schema.

    Lines of other types (`run`, `status`) are left out. An incomplete last line, as a killed run leaves it,
    is left out, too. Events of schema 1 get what can be derived: `why` is "warming" or "uncertain" if there
    is no label, and `quality` is None.

    Args:
        path: The file.

    Raises:
        EmotionError: The file cannot be read, or a line is not an event.
    """
    yield from _lines(path, {"frame": EmotionEvent})


def read_lines(path: str | Path) -> Iterator[Line]:
    """Yield events as `read_events` does, and the lines about runs and status between them.

    Args:
        path: The file.

    Raises:
        EmotionError: The file cannot be read, or a line is not one of `--jsonl`.
    """
    yield from _lines(path, _TYPES)


def _lines(path: str | Path, types: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the lines of some types, by the text of their field `type`."""
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = _first(line, path)  # noqa: PLW2901 - without a mark that is not part of it
                if not line.strip():
                    continue
                found = _decoded(line, types, where=f"{path}, line {number}")
                if found is not None:
                    yield found
    except OSError as error:
        raise EmotionError(f"{path} cannot be read ({error.strerror}); give a file of --jsonl") from error


def _first(line: bytes, path: str | Path) -> bytes:
    """Return the first line without the mark with which some editors begin UTF-8.

    Raises:
        EmotionError: The file has another encoding, or is compressed.
    """
    for start, reason in _NOT_TEXT.items():
        if line.startswith(start):
            raise EmotionError(f"{path} is {reason}; expected lines of JSON in UTF-8: convert it first")
    return line.removeprefix(codecs.BOM_UTF8)


def _decoded(line: bytes, types: Mapping[str, Any], *, where: str) -> Any:
    """Return a line; None if it is of another type or was cut off by the end of a run."""
    try:
        values = msgspec.json.decode(line)
        if not isinstance(values, dict) or not isinstance(values.get("schema"), int):
            raise EmotionError(f"{where}: not a line of --jsonl; expected an object with `schema`")
        if not OLDEST <= values["schema"] <= SCHEMA_VERSION:
            raise EmotionError(
                f"{where}: schema {values['schema']}; expected {OLDEST} to {SCHEMA_VERSION}: "
                "update this program"
            )
        kind = values.get("type", "frame")
        if not isinstance(kind, str) or kind not in types:
            return None
        return msgspec.convert(_upgraded(values), types[kind])
    except msgspec.ValidationError as error:
        raise EmotionError(f"{where}: not an event ({error}); give a file of --jsonl") from error
    except msgspec.DecodeError as error:
        if not line.endswith(b"\n"):
            return None
        raise EmotionError(f"{where}: not JSON ({error}); give a file of --jsonl") from error
    except RecursionError as error:
        raise EmotionError(f"{where}: nested too deeply; give a file of --jsonl") from error


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """Return a line of any schema in the current one."""
    persons = values.get("persons")
    if values["schema"] == OLDEST and isinstance(persons, list):
        for person in persons:
            if isinstance(person, dict) and person.get("top") is None:
                person["why"] = "uncertain" if person.get("emotions") else "warming"
    return values | {"schema": SCHEMA_VERSION}
