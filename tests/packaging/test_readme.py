"""The pages show what was measured, and the links of the Markdown files at the top lead to files."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_tables_are_made_from_the_results():
    command = [sys.executable, str(ROOT / "benchmarks" / "result_tables.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run: python benchmarks/result_tables.py"


def test_links_lead_somewhere():
    pages = [*ROOT.glob("*.md")]
    assert len(pages) >= 5
    for page in pages:
        targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8"))
        missing = [target for target in targets if not (ROOT / target).exists()]
        assert not missing, f"{page.name}: {missing}"
