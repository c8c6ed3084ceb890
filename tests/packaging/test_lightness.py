"""The runtime works where torch does not exist."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Runs the given statement in a fresh interpreter in which importing any of these packages fails.
BLOCKED = """
import sys

HEAVY = {"torch", "torchvision", "transformers", "open_clip", "ultralytics", "sklearn", "onnxscript"}

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HEAVY:
            raise ImportError(f"{name} is blocked: the runtime must not need it")

sys.meta_path.insert(0, Block())
"""

EVERY_MODULE = """
import importlib, pkgutil
import emotion_runtime

names = [m.name for m in pkgutil.walk_packages(emotion_runtime.__path__, "emotion_runtime.")]
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:
        # What the extra `web` installs is used by the modules of the page only, and they by nobody else.
        assert name.startswith("emotion_runtime.web."), name
        assert error.name in {"starlette", "uvicorn", "prometheus_client"}, error
loaded = HEAVY & {name.split(".")[0] for name in sys.modules}
assert not loaded, loaded
print(len(names))
"""


def run_blocked(body: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + body, *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_block_blocks():
    result = run_blocked("import torch")
    assert result.returncode != 0
    assert "torch is blocked" in result.stderr


def test_every_module_imports_without_torch():
    result = run_blocked(EVERY_MODULE)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 20


@pytest.mark.parametrize("script", ["to_trt", "to_triton"])
def test_engine_builders_start_without_torch(script: str):
    """A Jetson has the lean environment and its own TensorRT, nothing of the training extra."""
    body = "import runpy\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    result = run_blocked(body, str(ROOT / "export" / f"{script}.py"), "--help")
    assert result.returncode == 0, result.stderr
    assert "--bundle" in result.stdout


@pytest.mark.parametrize("arguments", [["onnx", "--help"], ["trt", "--help"], ["triton", "--help"]])
def test_export_starts_without_onnxruntime(arguments: list[str]):
    """The extra `export` leaves the choice between onnxruntime and onnxruntime-gpu to `cpu` and `gpu`."""
    body = (
        "import sys\nsys.modules['onnxruntime'] = None\n"
        "from emotion_export.cli import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", body, *arguments], capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr


def test_the_package_runs_as_a_module():
    body = "import runpy\nrunpy.run_module('emotion_runtime', run_name='__main__')\n"
    result = run_blocked(body, "--version")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("emotion-runtime ")


def test_the_demo_runs_without_torch(tmp_path: Path):
    out = tmp_path / "demo.jsonl"
    body = "from emotion_runtime.cli import main\nsys.exit(main(sys.argv[1:]))\n"
    result = run_blocked(body, "--source", "demo", "--max-frames", "12", "--jsonl", str(out), "--no-show")
    assert result.returncode == 0, result.stderr
    events = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(events) == 1 + 12  # the first line is about the run
    assert len(events[-1]["persons"]) == 2
