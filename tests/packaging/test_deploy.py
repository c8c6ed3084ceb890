"""The files of a service: configuration, systemd unit, container."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from emotion_runtime.cli import main
from emotion_runtime.config import RunConfig, make_config
from emotion_runtime.config_checks import check_runnable
from emotion_runtime.config_file import read_toml
from emotion_runtime.credentials import with_secrets
from emotion_runtime.sources import parse_sources

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "deploy" / "cameras.toml"
UNIT = ROOT / "deploy" / "emotion-runtime.service"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"


def test_example_configuration_is_valid() -> None:
    config = make_config(read_toml(str(EXAMPLE), RunConfig.__struct_fields__), {})
    check_runnable(config)
    assert config.sources == ["demo=demo"]


def test_commented_lines_of_the_example_are_valid_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two ways to write one source exclude each other; the last one counts here."""
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    setting = re.compile(r"# (\[|[a-z_]+ = )")
    lines = [line.removeprefix("# ") if setting.match(line) else line for line in lines]
    first = next(line for line in lines if line.startswith("desk = "))
    lines.remove(first)
    path = tmp_path / "cameras.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "yard").write_text("secret")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("DOOR_PASSWORD", "secret")
    monkeypatch.setenv("MQTT_PASSWORD", "secret")
    config = make_config(read_toml(str(path), RunConfig.__struct_fields__), {})
    check_runnable(config)
    assert config.record
    addresses = parse_sources(config.sources)
    assert [(one.name, one.kind) for one in addresses] == [
        ("demo", "demo"),
        ("desk", "camera"),
        ("door", "network"),
        ("lobby", "network"),
        ("film", "file"),
        ("yard", "network"),
    ]
    assert with_secrets(config.source[-1]) == "yard=rtsp://viewer:secret@192.168.1.21/stream1"


@pytest.mark.slow
def test_example_configuration_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--config", str(EXAMPLE), "--max-frames", "60"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert lines[0]["options"]["on_change"] is True
    assert {line["source"] for line in lines[1:]} == {"demo"}
    assert 2 < len(lines) < 30  # of 60 frames


# --- systemd ---


@pytest.fixture
def checked_unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")
    path.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", text, flags=re.MULTILINE))
    return path


def test_unit_is_valid(checked_unit: Path) -> None:
    command = ["systemd-analyze", "verify", "--man=no", str(checked_unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if UNIT.name in line]
    assert (done.returncode, ours) == (0, [])


def test_unit_is_hardened(checked_unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(checked_unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze is too old")
    match = re.search(r"Overall exposure level .*: ([\d.]+)", done.stdout)
    assert match, done.stderr
    assert float(match[1]) <= 2.0  # of 10; a unit without any protection has 9.6


def test_paths_of_unit_example_and_page_are_the_same() -> None:
    unit = UNIT.read_text(encoding="utf-8")
    page = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    program, config = re.search(r"^ExecStart=(\S+) --config (\S+)$", unit, re.MULTILINE).groups()
    secrets = re.search(r"^EnvironmentFile=-(\S+)$", unit, re.MULTILINE)[1]
    for path in (program.removesuffix("/bin/emotion-runtime"), config, secrets):
        assert path in page
    assert config in DOCKERFILE.read_text(encoding="utf-8")


# --- container ---


def test_dockerfile_has_no_findings() -> None:
    program = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        assert os.environ.get("CI") != "true", "hadolint is missing; it comes with the extra `dev`"
        pytest.skip("hadolint is not installed")
    command = [program, "--config", str(ROOT / ".hadolint.yaml"), str(DOCKERFILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_build_context_has_what_the_wheel_is_built_from() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line.removeprefix("!") for line in lines if line.startswith("!")}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    included = re.search(r"only-include = \[(.*?)\]", project)[1]
    for folder in re.findall(r'"([^"]+)"', included):
        assert any(folder == one or folder.startswith(f"{one}/") for one in kept), folder
    assert {"pyproject.toml", "README.md", "LICENSE*", "constraints"} <= kept
