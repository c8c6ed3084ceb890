"""What is in the source distribution: the examples and their tests, too."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_source_distribution_has_the_examples(tmp_path: Path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    programs = {f"examples/{file.name}" for file in (ROOT / "examples").glob("*.py")}
    assert programs
    assert programs | {"tests/examples/test_examples.py", "README.md", "docs/jsonl.md"} <= names
