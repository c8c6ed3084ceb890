"""Check the machine: system, Jetson, GPU, driver, CUDA."""

import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from emotion_runtime import __version__
from emotion_runtime.doctor.findings import OK, WARN, Finding
from emotion_runtime.errors import EmotionError
from emotion_runtime.tensorrt import gpu as nvidia

# JetPack version by the version of Jetson Linux. Source: NVIDIA's JetPack archive.
_JETPACKS = {"35": "5", "36.3": "6.0", "36.4": "6.1 or 6.2", "36": "6", "38": "7"}
_OLDEST_JETPACK = 6  # the first with TensorRT 10 and Python 3.10

_QUERY = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
_CUDA_FIX = (
    "update the driver, or pip install cuda-bindings==12.* (for the CUDA version that nvidia-smi shows); "
    "start a container with --gpus all"
)
_SECONDS = 20  # timeout: a driver that hangs must not block the doctor


def system() -> Iterator[Finding]:
    """Report the versions of this program, Python and the operating system."""
    python = f"Python {platform.python_version()}"
    yield Finding("system", OK, f"emotion-runtime {__version__}, {python}, {platform.platform()}")


def jetson(release: Path = Path("/etc/nv_tegra_release")) -> Iterator[Finding]:
    """Check the JetPack version of a Jetson; on other machines, report nothing.

    Args:
        release: File with the version, such as "# R36 (release), REVISION: 4.3, GCID: ...".
    """
    if not release.is_file():
        return
    found = re.search(r"R(\d+) \(release\), REVISION: (\d+)", release.read_text(encoding="utf-8"))
    if found is None:
        yield Finding("jetson", WARN, f"{release} has no readable version", "sudo apt show nvidia-jetpack")
        return
    linux = f"{found[1]}.{found[2]}"
    jetpack = _JETPACKS.get(linux) or _JETPACKS.get(found[1])
    if jetpack is None:
        yield Finding("jetson", OK, f"Jetson Linux {linux}, of an unrecognised JetPack version")
    elif int(jetpack[0]) < _OLDEST_JETPACK:
        text = f"JetPack {jetpack} (Jetson Linux {linux}) has TensorRT 8, which is too old; use 6.1 or newer"
        yield Finding(
            "jetson", WARN, text, "flash JetPack 6.2: https://developer.nvidia.com/embedded/jetpack"
        )
    else:
        yield Finding("jetson", OK, f"JetPack {jetpack} (Jetson Linux {linux})")


def gpu() -> Iterator[Finding]:
    """List NVIDIA GPUs and their driver with `nvidia-smi`."""
    try:
        done = _nvidia_smi()
    except FileNotFoundError:
        yield Finding("gpu", OK, "no NVIDIA driver (nvidia-smi not found); models run on the CPU")
        return
    except subprocess.TimeoutExpired:
        yield Finding("gpu", WARN, f"nvidia-smi did not respond within {_SECONDS} s", "sudo reboot")
        return
    if done.returncode:
        output = " ".join((done.stdout + done.stderr).split())
        fix = "sudo reboot (needed after a driver update); if that does not help, reinstall the driver"
        yield Finding("gpu", WARN, f"nvidia-smi failed: {output}", fix)
        return
    for line in done.stdout.strip().splitlines():
        name, driver, memory = (part.strip() for part in line.split(","))
        yield Finding("gpu", OK, f"{name}, {memory}, driver {driver}")


def _nvidia_smi() -> "subprocess.CompletedProcess[str]":
    return subprocess.run(_QUERY, capture_output=True, text=True, check=False, timeout=_SECONDS)


def _driver_shows_a_gpu() -> bool:
    try:
        done = _nvidia_smi()
    except (FileNotFoundError, subprocess.TimeoutExpired):  # reported by `gpu`
        return False
    return done.returncode == 0 and bool(done.stdout.strip())


def cuda() -> Iterator[Finding]:
    """Check what TensorRT engines need of CUDA: cuda-python and a device that starts."""
    try:
        library = nvidia.load_cuda()
    except EmotionError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            yield Finding("cuda", OK, f"{error.args[0].split(':')[0]}; only TensorRT engines need it")
        else:
            yield Finding("cuda", WARN, str(error))
        return
    try:
        found = nvidia.find_gpu(library)
    except EmotionError as error:
        if _driver_shows_a_gpu():
            text = f"nvidia-smi shows a GPU, but CUDA does not start on it; {error}"
            yield Finding("cuda", WARN, text, _CUDA_FIX)
        else:
            yield Finding("cuda", OK, f"cuda-python is installed; {error}")
        return
    code = nvidia.call(library.cudaRuntimeGetVersion)
    version = f"{code // 1000}.{code % 1000 // 10}"
    yield Finding("cuda", OK, f"CUDA {version}, {found.name}, compute capability {found.compute_capability}")
