"""The offline wheelhouse of docs/jetson.md is complete for the board, and installs and runs offline."""

import json
import os
import platform
import re
import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parents[2]
TESTED_HERE = platform.system() == "Linux" and platform.machine() == "x86_64"

pytestmark = [pytest.mark.nightly, pytest.mark.network]


def commands() -> list[str]:
    """Return the two blocks of commands: the one that collects the wheels, and the one that installs them."""
    section = (ROOT / "docs" / "jetson.md").read_text(encoding="utf-8").partition("offline wheelhouse")[2]
    return re.findall(r"```bash\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)


def wheelhouse(folder: Path, python: str, machine: str) -> Path:
    """Run the first block for a version of Python, such as "3.10", and a processor, in a fresh checkout."""
    checkout = folder / "checkout"
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", checkout], check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "tools"], check=True)
    block = commands()[0].replace("aarch64", machine)
    block = block.replace("py310", f"py{python.replace('.', '')}").replace("3.10", python)
    environment = {**os.environ, "PATH": f"{folder / 'tools' / 'bin'}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=checkout, env=environment, check=True)
    return checkout / "wheels"


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        return message_from_bytes(archive.read(name))


@pytest.mark.parametrize("python", ["3.10", "3.12"])  # JetPack 6 and 7
def test_nothing_is_missing_on_the_board(tmp_path: Path, python: str):
    wheels = list(wheelhouse(tmp_path, python, "aarch64").glob("*.whl"))
    versions = {parse_wheel_filename(wheel.name)[0]: parse_wheel_filename(wheel.name)[1] for wheel in wheels}
    board = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": "aarch64",
        "platform_system": "Linux",
        "sys_platform": "linux",
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    missing = []
    for wheel in wheels:
        extra = "jetson" if wheel.name.startswith("emotion_runtime") else ""
        for text in metadata(wheel).get_all("Requires-Dist", []):
            needed = Requirement(text)
            if needed.marker is not None and not needed.marker.evaluate({**board, "extra": extra}):
                continue
            version = versions.get(canonicalize_name(needed.name))
            if version is None or not needed.specifier.contains(version, prereleases=True):
                missing.append(f"{wheel.name} needs {text}")
    assert not missing
    assert {"emotion-runtime", "onnxruntime", "opencv-python"} <= set(versions)


@pytest.mark.skipif(not TESTED_HERE, reason="the wheels are those of Linux on x86-64")
def test_it_installs_and_runs_without_a_network(tmp_path: Path):
    wheels = wheelhouse(tmp_path, "{}.{}".format(*sys.version_info), "x86_64")
    board = tmp_path / "board"
    board.mkdir()
    (board / "wheels").symlink_to(wheels)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))}
    environment["PIP_CONFIG_FILE"] = os.devnull  # no other wheels of this machine

    def offline(command: str) -> str:
        run = ["unshare", "--net", "bash", "-euo", "pipefail", "-c", command]
        return subprocess.run(
            run, cwd=board, env=environment, check=True, capture_output=True, text=True
        ).stdout

    offline(commands()[1].replace(" --system-site-packages", "").replace("python3", sys.executable))
    checks = json.loads(offline(".venv/bin/emotion-runtime --doctor --json"))
    assert "FAIL" not in json.dumps(checks)
    lines = offline(".venv/bin/emotion-runtime --source demo --max-frames 5 --jsonl -").splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["run", *["frame"] * 5]
