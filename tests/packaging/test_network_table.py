"""The table of connections in the page on privacy has every option that makes one."""

import re
from pathlib import Path

import pytest

from emotion_runtime.options import parser

PAGE = Path(__file__).resolve().parents[2] / "docs" / "privacy.md"
# Options that open no connection, and do not say where one leads.
LOCAL = {
    *("--help", "--version", "--config", "--print-config", "--json", "--log-format"),
    *("--bundle", "--head", "--detector", "--detector-size", "--detector-score", "--backend", "--precision"),
    *("--window", "--every", "--detect-every", "--smoothing", "--hysteresis"),
    *("--max-frames", "--duration", "--realtime", "--follow", "--lost-after", "--frozen-after"),
    *(
        "--record-segment",
        "--append",
        "--overwrite",
        "--rotate",
        "--rotate-keep",
        "--on-change",
        "--wall-clock",
    ),
    *("--zone", "--blur", "--no-ids", "--aggregate"),
    *("--mqtt-ca", "--mqtt-every", "--mqtt-discovery"),
    *("--notice-who", "--notice-why", "--notice-kept", "--notice-contact"),
}


def first_table() -> list[list[str]]:
    """Return the cells of the rows of the table."""
    section = PAGE.read_text(encoding="utf-8").partition("## What connects to the network")[2]
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [re.split(r"(?<!\\)\|", row)[1:-1] for row in rows[2:]]


def test_every_option_is_in_the_table_or_opens_no_connection() -> None:
    every = {action.option_strings[-1] for action in parser()._actions if action.option_strings}
    every = {re.sub(r"^--no-(?=show|mqtt)", "--", option) for option in every}
    named = {option for when, *_ in first_table() for option in re.findall(r"--[a-z-]+", when)}
    named |= {
        option for _, *rest in first_table() for option in re.findall(r"--(?:token|serve)-\w+", str(rest))
    }
    assert every - LOCAL <= named, "add a row for each of these options, or add it to LOCAL"
    assert every >= LOCAL


@pytest.mark.parametrize("option", ["--serve", "--mqtt", "--source", "--doctor", "--show"])
def test_options_that_open_connections_have_a_row_of_three_cells(option: str) -> None:
    (row,) = (cells for cells in first_table() if re.match(rf"\s*`{option}\b(?!-)", cells[0]))
    assert len(row) == 3
    assert all(cell.strip() not in ("", "-") for cell in row)
