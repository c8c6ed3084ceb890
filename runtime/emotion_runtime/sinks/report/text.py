"""Texts of a report: escaped names, times, shares, tables."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone

from emotion_runtime.files import readable

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LONGEST = 200  # characters of a name
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def escaped(text: str) -> str:
    """Return a text from outside that can stand in HTML, also within quotes.

    Characters that are not text, or that would turn the direction of the text around them, become U+FFFD.
    """
    text = readable(text)
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} \u2026 {text[-_LONGEST // 2 :]}"
    return html.escape(_CONTROL.sub("\ufffd", text), quote=True)


def name(text: str) -> str:
    """Return a name as HTML that has no influence on the direction of the text around it."""
    return f"<bdi>{escaped(text)}</bdi>"


def clock(seconds: float) -> str:
    """Return a media time, such as 0:05.2, 3:07, 1:02:03 or "12 d 1:02:03"."""
    if seconds < _MINUTE:
        return f"0:{int(seconds * 10) / 10:04.1f}"
    whole = int(seconds)
    days, rest = divmod(whole, _DAY)
    hours, minutes = rest // _HOUR, rest % _HOUR // _MINUTE
    text = (
        f"{hours}:{minutes:02d}:{whole % _MINUTE:02d}"
        if hours or days
        else f"{minutes}:{whole % _MINUTE:02d}"
    )
    return f"{days:,} d {text}" if days else text


def duration(seconds: float) -> str:
    """Return a length of time, such as "5.8 s" or "1:02:03"."""
    return f"{seconds:.1f} s" if seconds < _MINUTE else clock(seconds)


def utc(time: datetime) -> str:
    """Return a wall-clock time, such as "2026-11-27 01:30:05 UTC"."""
    return f"{time.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"


def percent(share: float) -> str:
    """Return a share of 1, such as "94 %"; "under 1 %" if it is small."""
    return "under 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def count(number: int, one: str, more: str) -> str:
    """Return a number with its noun, such as "1 person" or "2,000 people"."""
    return f"{number:,} {one if number == 1 else more}"


def in_order(seconds: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return what took some time, the longest first."""
    return sorted(((key, value) for key, value in seconds.items() if value > 0), key=lambda item: -item[1])


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; its cells are HTML."""
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
