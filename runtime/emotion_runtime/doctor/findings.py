"""What the doctor finds, and how it is written down."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

State = Literal["OK", "WARN", "FAIL"]
OK: Final = "OK"
WARN: Final = "WARN"
FAIL: Final = "FAIL"

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    state: OK; WARN: something does not work that a run may do without; FAIL: a run would fail. fix: the
    command that mends it, None where nothing has to be mended or `text` says it.
    """

    area: str
    state: State
    text: str
    fix: str | None = None


def as_text(findings: Sequence[Finding]) -> str:
    """One line a finding, with its fix on the line below."""
    width = max(len(finding.area) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:4}  {finding.area:{width}}  {finding.text}")
        if finding.fix:
            lines.append(f"{'':4}  {'':{width}}  -> {finding.fix}")
    return "\n".join(lines) + "\n"


def as_json(findings: Sequence[Finding]) -> str:
    """`{"schema": 1, "findings": [{"area", "state", "text", "fix"}, ...]}`, indented."""
    report = {"schema": SCHEMA, "findings": [asdict(finding) for finding in findings]}
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"
