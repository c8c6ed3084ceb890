"""Run the tests of engines/ in a process of their own.

In one process with all other tests, some of which run OpenVINO, builds with TensorRT-RTX ended in a
segmentation fault.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent / "engines"


@pytest.mark.parametrize(
    "marked",
    [pytest.param("", marks=pytest.mark.slow), pytest.param("nightly", marks=pytest.mark.nightly)],
    ids=["all", "nightly"],
)
def test_engines(marked: str, request: pytest.FixtureRequest):
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=-ra --strict-markers", str(FOLDER)]
    if "not network" in request.config.option.markexpr:
        marked = f"{marked} and not network" if marked else "not network"
    command += ["-m", marked]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-2000:]}"
    assert " passed" in done.stdout
