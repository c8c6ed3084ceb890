"""What tests/conftest.py promises: nothing is skipped unnoticed in CI, and some tests run alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TESTS = Path(__file__).resolve().parents[1]
SKIPPED = """
import pytest

def test_of_a_part():
    pytest.skip("the part is not installed")

def test_of_a_machine():
    pytest.skip("this machine forbids watching system calls: ptrace")

@pytest.mark.xfail
def test_that_is_known_to_fail():
    assert False
"""
SKIPPED_FILE = """
import pytest

pytest.importorskip("a_package_that_nobody_has", reason="its extra is not installed")

def test_of_it():
    pass
"""
ALONE = """
import time
from pathlib import Path

import pytest

def run(name):
    start = time.monotonic()
    time.sleep(0.2)
    Path(__file__).with_name(f"{name}.txt").write_text(f"{start} {time.monotonic()}")

@pytest.mark.parametrize("index", range(6))
def test_beside_others(index):
    run(f"beside{index}")

@pytest.mark.alone
@pytest.mark.parametrize("index", range(3))
def test_alone(index):
    run(f"alone{index}")
"""


def run_pytest(folder: Path, tests: str, *options: str, ci: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "test_rules.py").write_text(tests)
    # A copy, because its own file is the lock, which the test that runs this one may hold already.
    (folder / "conftest.py").write_text((TESTS / "conftest.py").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = alone\n")
    names = [name for name in os.environ if name.startswith("PYTEST_")]
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment["CI"] = ci
    command = [sys.executable, "-m", "pytest", "-ra", *options, str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_skipping_is_a_failure_in_ci_only(tmp_path: Path) -> None:
    outside = run_pytest(tmp_path, SKIPPED)
    assert outside.returncode == 0
    assert "2 skipped, 1 xfailed" in outside.stdout
    inside = run_pytest(tmp_path, SKIPPED, ci="true")
    assert inside.returncode == 1
    assert "1 failed, 1 skipped, 1 xfailed" in inside.stdout
    assert "test_of_a_part does not run in CI. Skipped: the part is not installed" in inside.stdout


def test_a_file_that_is_skipped_as_a_whole_is_a_failure_in_ci_only(tmp_path: Path) -> None:
    assert "1 skipped" in run_pytest(tmp_path, SKIPPED_FILE).stdout
    inside = run_pytest(tmp_path, SKIPPED_FILE, "-n", "2", ci="true")
    assert inside.returncode not in {0, 5}
    assert "does not run in CI. Skipped: its extra is not installed" in inside.stdout


def test_no_test_of_another_process_runs_beside_one_that_is_alone(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, ALONE, "-n", "2")
    assert done.returncode == 0, done.stdout
    spans = {
        path.stem: tuple(map(float, path.read_text().split())) for path in sorted(tmp_path.glob("*.txt"))
    }
    assert len(spans) == 9
    for name in ("alone0", "alone1", "alone2"):
        start, end = spans.pop(name)
        assert all(other_end <= start or end <= other for other, other_end in spans.values())
