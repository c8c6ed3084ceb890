"""The page about JSON lines lists the fields of the structs, in their order and with their types."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest

from emotion_runtime.types import AggregateLine, EmotionEvent, Person, Quality, RunLine, StatusLine

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "jsonl.md").read_text(encoding="utf-8")
WORDS = {int: "integer", float: "number", str: "string", datetime: "string"}


def table(heading: str) -> list[tuple[str, str, str]]:
    """Return field, type and meaning of each row of the table under a heading."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section is not None
    return re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", section[1], re.MULTILINE)


def word(kind: Any) -> str:
    """Return what a type is called in the page."""
    if type(None) in get_args(kind):
        (inner,) = (each for each in get_args(kind) if each is not type(None))
        return "string, may be missing" if inner is datetime else f"{word(inner)} or null"
    if get_origin(kind) is Literal:
        return "string"
    if get_origin(kind) in (list, tuple):
        return "list"
    if get_origin(kind) is dict or issubclass(kind, msgspec.Struct):
        return "object"
    return WORDS[kind]


@pytest.mark.parametrize(
    ("heading", "struct"),
    [
        ("Run", RunLine),
        ("Frame", EmotionEvent),
        ("Person", Person),
        ("Quality", Quality),
        ("Aggregate", AggregateLine),
        ("Status", StatusLine),
    ],
)
def test_fields_and_their_types(heading: str, struct: type[msgspec.Struct]):
    hints = get_type_hints(struct)
    expected = [(name, word(hints[name])) for name in struct.__struct_fields__]
    assert [(name, kind) for name, kind, _ in table(heading)] == expected


@pytest.mark.parametrize(
    ("heading", "struct", "field"),
    [("Person", Person, "state"), ("Person", Person, "why"), ("Status", StatusLine, "status")],
)
def test_every_value_of_a_choice_is_named(heading: str, struct: type[msgspec.Struct], field: str):
    (meaning,) = (meaning for name, _, meaning in table(heading) if name == field)
    kind = get_type_hints(struct)[field]
    choices = [each for part in (kind, *get_args(kind)) for each in get_args(part) if isinstance(each, str)]
    assert choices
    assert not [choice for choice in choices if f"`{choice}`" not in meaning]
