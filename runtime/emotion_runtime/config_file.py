"""Configuration files: the options of a run and a table of sources, in TOML."""

import json
import re
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from emotion_runtime.credentials import with_user, without_passwords
from emotion_runtime.errors import EmotionError
from emotion_runtime.files import with_home

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# Keys of a source that is written as a table.
_KEYS = ("uri", "user", "password")


def read_toml(path: str, known: tuple[str, ...]) -> dict[str, Any]:
    """Return the options of a configuration file; its sources are all in `source`, as "NAME=URI".

    Args:
        path: The file.
        known: Names of the options that exist.

    Raises:
        EmotionError: The file cannot be read, is not valid TOML, or has an unknown key or a wrong source; one
            line for each mistake.
    """
    if not path:
        raise EmotionError("--config is empty: give the path of a TOML file, or omit it")
    try:
        # Some editors write a mark first.
        table = tomllib.loads(Path(with_home(path)).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise EmotionError(
            f"--config {path}: cannot be read ({error.strerror}); give the path of a TOML file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EmotionError(
            f"--config {path}: not valid TOML ({error}); for a template see emotion-runtime --print-config"
        ) from error
    mistakes = [
        f"unknown key {key}{_expected(key, (*known, 'sources'))}"
        for key in table
        if key not in (*known, "sources")
    ]
    named, listed = table.pop("sources", {}), table.pop("source", [])
    if not isinstance(named, dict) or isinstance(listed, dict):
        mistakes.append(
            'for sources with names, write [sources] and below it lines such as door = "rtsp://..."'
        )
    else:
        sources, wrong = _in_list(listed)
        more, also_wrong = _in_table(named, known)
        if sources or more:
            table["source"] = [*sources, *more]
        mistakes += wrong + also_wrong
    if mistakes:
        raise EmotionError("\n".join(f"--config {path}: {mistake}" for mistake in mistakes))
    return table


def _in_table(named: Mapping[str, Any], options: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Return the sources of `[sources]` as "NAME=URI", and what is wrong with others."""
    sources, mistakes = [], []
    for name, value in named.items():
        if name in options and not isinstance(value, dict):
            mistakes.append(f"the option {name} is below [sources]; move it above the line [sources]")
            continue
        try:
            sources.append(_source(name, value))
        except EmotionError as error:
            mistakes.append(f"source {name}: {error}")
    return sources, mistakes


def _in_list(given: Any) -> tuple[list[str], list[str]]:
    """Return the sources of `source = ...` or of `[[source]]`, and what is wrong with others."""
    values = given if isinstance(given, list) else [given]
    sources, mistakes = [], []
    for index, value in enumerate(values, 1):
        if not isinstance(value, dict):
            if isinstance(value, str):
                sources.append(value)
            else:
                mistakes.append(
                    f"source = {_as_written(given)}: expected texts in quotes; for a camera, write camera = 0"
                )
            continue
        given = dict(value)
        name = given.pop("name", None)
        if not isinstance(name, str):
            mistakes.append(f'source number {index} has no name; add a line such as name = "door"')
            continue
        try:
            sources.append(_source(name, given))
        except EmotionError as error:
            mistakes.append(f"source {name}: {error}")
    return sources, mistakes


def _source(name: str, value: Any) -> str:
    """Return "NAME=URI" for a source of the file.

    Args:
        name: Its name.
        value: Its address, the number of a camera, or a table with `uri`, and maybe `user` and `password`.

    Raises:
        EmotionError: It is something else.
    """
    from emotion_runtime.sources.uris import NAME  # noqa: PLC0415 - keeps `--help` fast

    if not re.fullmatch(NAME, name):
        raise EmotionError("expected a name of letters, digits, spaces and _.-")
    table = value if isinstance(value, dict) else {"uri": value}
    for key in table:
        if key not in _KEYS:
            raise EmotionError(f"unknown key {key}{_expected(key, _KEYS)}")
    uri = table.get("uri")
    if isinstance(uri, bool) or not isinstance(uri, str | int) or uri == "":
        problem = "the address is missing" if uri in (None, "") else f"its address is {_as_written(uri)}"
        raise EmotionError(f'{problem}: expected text such as "rtsp://...", or a camera number')
    user, password = table.get("user", ""), table.get("password", "")
    for key, text in (("user", user), ("password", password)):
        if not isinstance(text, str):
            raise EmotionError(f"{key}: expected text in quotes")
    if password and not user:
        raise EmotionError("there is a password without a user; give user, too")
    return f"{name}={with_user(str(uri), user, password) if user else uri}"


def _as_written(value: Any) -> str:
    """Return a value as in the file, without passwords. Values look the same in JSON, except dates."""
    return without_passwords(json.dumps(value, ensure_ascii=False, default=str))


def _expected(key: str, known: tuple[str, ...]) -> str:
    close = get_close_matches(key, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; expected some of {', '.join(known)}"
