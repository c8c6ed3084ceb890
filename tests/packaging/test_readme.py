"""What the README says is what was measured."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_is_made_from_the_results():
    command = [sys.executable, str(ROOT / "benchmarks" / "readme_table.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run: python benchmarks/readme_table.py"


def test_links_lead_somewhere():
    papers = [*ROOT.glob("*.md")]
    assert len(papers) >= 5
    for paper in papers:
        targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", paper.read_text(encoding="utf-8"))
        missing = [target for target in targets if not (ROOT / target).exists()]
        assert not missing, f"{paper.name}: {missing}"
