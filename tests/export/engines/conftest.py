import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def download(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The wheel of a requirement from PyPI, not installed. Without a network: skipped, and failed in CI."""

    def get(requirement: str, *options: str) -> Path:
        folder = tmp_path_factory.mktemp("wheel")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--dest", str(folder), *options, requirement]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["pip said nothing"]
            reason = f"{requirement} cannot be downloaded: {said[-1]}"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
        (wheel,) = folder.glob("*.whl")
        return wheel

    return get
