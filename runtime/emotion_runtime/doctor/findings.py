"""Findings of the doctor, and their output as text and JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

FindingState = Literal["OK", "WARN", "FAIL"]
OK: Final = "OK"
WARN: Final = "WARN"
FAIL: Final = "FAIL"

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check.

    Attributes:
        area: What was checked, in one word.
        state: OK; WARN: something does not work, but a run does not need it; FAIL: a run would fail.
        text: What was found.
        fix: The command that fixes it; None if nothing needs a fix or `text` has it.
        details: The same as values for programs, if there are some.
    """

    area: str
    state: FindingState
    text: str
    fix: str | None = None
    details: Mapping[str, Any] | None = None


def as_text(findings: Sequence[Finding]) -> str:
    """Format each finding as one line, with its fix on the next line."""
    width = max(len(finding.area) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:4}  {finding.area:{width}}  {finding.text}")
        if finding.fix:
            lines.append(f"{'':4}  {'':{width}}  -> {finding.fix}")
    return "\n".join(lines) + "\n"


def as_json(findings: Sequence[Finding]) -> str:
    """Format findings as `{"schema": 1, "findings": [{"area", "state", "text", "fix"}, ...]}`, indented.

    Those of sources also have "details".
    """
    values = [asdict(finding) for finding in findings]
    listed = [{key: one for key, one in each.items() if key != "details" or one} for each in values]
    report = {"schema": SCHEMA, "findings": listed}
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"
