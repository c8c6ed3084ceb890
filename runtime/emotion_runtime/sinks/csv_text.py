"""Lines of CSV that spreadsheets and pandas read alike, and that no spreadsheet takes for a formula."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from emotion_runtime.errors import EmotionError
from emotion_runtime.rounding import rounded

Value = str | int | float | None

# How texts begin that spreadsheets calculate; the wide forms are those of East Asian keyboards.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
# `#` begins a comment, for `read_csv(comment="#")`; `{` begins a line of JSON, for `ByteOutput`.
_QUOTED = re.compile(r"""[,;"'#]|^[\s{]|\s$""")
_JSON_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


def csv_line(values: Iterable[Value]) -> bytes:
    """Return one line of UTF-8 with its line break.

    None becomes an empty field. A text that begins with `=`, `+`, `-` or `@` gets a `'` before it, since
    spreadsheets would calculate it. Line breaks and other control characters become U+FFFD, so that each row
    is one line.
    """
    return (",".join(map(_field, values)) + "\n").encode("utf-8", "replace")


def csv_comment(content: msgspec.Struct | dict[str, str | int]) -> bytes:
    """Return a line with `# ` and JSON, which means nothing to a spreadsheet either."""
    values = rounded(content) if isinstance(content, msgspec.Struct) else content
    text = json.dumps(msgspec.to_builtins(values))  # only ASCII
    return b"# " + _JSON_TEXT.sub(_harmless, text).encode() + b"\n"


def kept_header(path: Path, header: bytes, what: str) -> bool:
    """Return whether a file, to which rows will be added, has its line with the names of the columns.

    Args:
        path: The file; it need not exist.
        header: That line.
        what: The file, for messages.

    Raises:
        EmotionError: It has other columns, or cannot be read.
    """
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            first = next((line for line in file if not line.startswith(b"#") and line.strip()), None)
    except OSError as error:
        raise EmotionError(f"{what} cannot be read ({error.strerror}); give another file name") from error
    if first is not None and first.rstrip(b"\r\n") != header.rstrip(b"\n"):
        raise EmotionError(
            f"{what} has other columns than this run, so no rows can be added to it: give another file name, "
            "or --overwrite"
        )
    return first is not None


def _field(value: Value) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return repr(value)
    text = _CONTROL.sub("\ufffd", value)
    if text.lstrip().startswith(_FORMULA):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def _harmless(match: re.Match[str]) -> str:
    """Escape what would let a field of a spreadsheet begin with a formula inside a text of JSON."""
    text = match[1].replace(",", "\\u002c").replace(";", "\\u003b")
    if text.startswith(_FORMULA):
        text = f"\\u{ord(text[0]):04x}{text[1:]}"
    return f'"{text}"'
