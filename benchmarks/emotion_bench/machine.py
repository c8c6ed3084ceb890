"""Describe the machine that a benchmark ran on."""

import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import distributions
from pathlib import Path

from emotion_runtime import __version__
from emotion_runtime.backends.onnx import usable_cores

_GPU = ("onnxruntime-gpu", "tensorrt", "tensorrt-rtx")
PACKAGES = ("onnxruntime", "openvino", "torch", "opencv-python", *_GPU)


def card(packages: Sequence[str] = PACKAGES) -> dict[str, str | int | None]:
    """Return CPU, cores, GPU, system and package versions; None for a package that is not installed."""
    return {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "gpu": gpu_name(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "emotion-runtime": __version__,
        **{name: next((each.version for each in distributions(name=name)), None) for name in packages},
    }


def cpu_name(listing: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of the CPU, from Linux or from the platform module."""
    text = listing.read_text(encoding="utf-8") if listing.is_file() else ""
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def gpu_name() -> str | None:
    """Return the name, driver and memory of the first GPU from nvidia-smi; None without a GPU."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else None


def folder_name(of: str, cores: int | None = None) -> str:
    """Return a folder name for results/: ("AMD EPYC", 2) becomes "amd-epyc-2-cores"."""
    name = re.sub(r"\(R\)|\(TM\)|CPU|Processor|NVIDIA|@.*|,.*", " ", of)
    words = re.findall(r"[a-z0-9]+", name.lower())
    return "-".join([*words, *([f"{cores}-cores"] if cores else [])])
