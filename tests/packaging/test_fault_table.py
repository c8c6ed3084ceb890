"""The tables of faults in the documentation name tests that exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests" / "runtime"
PAGES = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("streams.md", "mqtt.md")]
ROWS = re.findall(r"^\| (.+?) \| (.+?) \| `(\S+)::(\S+)`.*\|$", "\n".join(PAGES), re.MULTILINE)


def test_the_table_is_read():
    assert len(ROWS) >= 30
    faults = [fault for fault, *_ in ROWS]
    assert len(set(faults)) == len(faults)


@pytest.mark.parametrize(("file", "name"), [row[2:] for row in ROWS])
def test_each_fault_has_a_test(file: str, name: str):
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_each_row_has_a_test():
    table = PAGES[0].partition("## Faults")[2] + PAGES[1].partition("## When something fails")[2]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "| |" not in line]
    assert len(rows) == len(ROWS) + len(PAGES)  # and the headings
