"""No library reports home: nothing is written into a fresh home folder, with the variables of CI removed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emotion_runtime.telemetry import OPT_OUTS

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
# ONNX Runtime, ultralytics and OpenVINO keep quiet where they see a CI service or pytest.
QUIETING = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "PYTEST_CURRENT_TEST")
# Not reports, but caches and settings that libraries write into a home folder.
CACHES = ("matplotlib", "fontconfig", "mesa_shader_cache", "Ultralytics", "torch")


def run_at_home(home: Path, *command: str) -> list[str]:
    """Run Python in a fresh home folder; return the files it left there, caches excluded."""
    hidden = {*QUIETING, *OPT_OUTS, "XDG_CACHE_HOME", "XDG_CONFIG_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["HOME"] = str(home)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=BENCHMARKS,  # Python finds emotion_bench there, which no environment has installed
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    files = [path.relative_to(home) for path in home.rglob("*") if path.is_file()]
    return [str(path) for path in files if not set(CACHES) & set(path.parts)]


def test_the_home_folder_shows_a_report(tmp_path: Path):
    """Without the opt-outs ONNX Runtime writes a device id, so an empty home folder means something."""
    assert any("onnxruntime" in name for name in run_at_home(tmp_path, "-c", "import onnxruntime"))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cpu", "openvino"])
def test_a_run_reports_nothing(tmp_path: Path, backend: str):
    run = ("-m", "emotion_runtime", "--source", "demo", "--max-frames", "3", "--jsonl", os.devnull)
    assert run_at_home(tmp_path, *run, "--backend", backend) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "modules", ["emotion_export.quantize, onnxruntime", "emotion_train.model, onnxruntime", "emotion_bench"]
)
def test_training_export_and_benchmarks_report_nothing(tmp_path: Path, modules: str):
    assert run_at_home(tmp_path, "-c", f"import {modules}") == []


@pytest.mark.slow
def test_ultralytics_sends_no_events(tmp_path: Path):
    program = "import emotion_export; from ultralytics.utils.events import events; assert not events.enabled"
    assert run_at_home(tmp_path, "-c", program) == []


def test_ray_sends_no_usage_reports(tmp_path: Path):
    program = "import emotion_train; from ray._common.usage import usage_lib as u; assert not {}"
    assert run_at_home(tmp_path, "-c", program.format("u.usage_stats_enabled()")) == []


@pytest.mark.parametrize("variable", OPT_OUTS)
def test_a_choice_of_the_user_is_kept(variable: str):
    program = f"import os, emotion_runtime; assert os.environ[{variable!r}] == 'mine'"
    subprocess.run([sys.executable, "-c", program], env={**os.environ, variable: "mine"}, check=True)
