"""Check the machine: system, Jetson, GPU, driver, CUDA."""

import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from emotion_runtime import __version__
from emotion_runtime.doctor.findings import OK, WARN, Finding
from emotion_runtime.errors import EmotionError
from emotion_runtime.installed import installed
from emotion_runtime.jetson import RELEASE, on_jetson
from emotion_runtime.tensorrt import gpu as nvidia
from emotion_runtime.tensorrt.driver import CudaError

# JetPack version by the version of Jetson Linux. Source: NVIDIA's JetPack archive.
_JETPACKS = {"35": "5", "36.3": "6.0", "36.4": "6.1 or 6.2", "36": "6", "38": "7", "39": "7.2"}
_OLDEST_JETPACK = 6  # the first with TensorRT 10 and Python 3.10

_QUERY = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")
_CUDA_FIX = "sudo reboot (needed after a driver update), or start the container with --gpus all"
_SECONDS = 20  # timeout: a driver that hangs must not block the doctor


def system() -> Iterator[Finding]:
    """Report the versions of this program, Python and the operating system."""
    python = f"Python {platform.python_version()}"
    yield Finding("system", OK, f"emotion-runtime {__version__}, {python}, {platform.platform()}")


def jetson(
    release: Path = RELEASE,
    meminfo: Path = Path("/proc/meminfo"),
    sensors: Path = Path("/sys/class/hwmon"),
) -> Iterator[Finding]:
    """Check JetPack, memory, power mode and throttling of a Jetson; on other machines, report nothing.

    Args:
        release: File with the version; see `jetson.RELEASE`.
        meminfo: Where Linux reports memory.
        sensors: Where Linux lists sensors.
    """
    if not release.is_file():
        return
    yield from _jetpack(release)
    yield Finding("jetson", OK, f"{_memory(meminfo)}, power mode {_power_mode()}")
    limits = {int(count.read_text(encoding="ascii")) for count in sensors.glob("*/oc*_event_cnt")}
    if any(limits):
        text = "the board has slowed down because it drew too much current since it was started"
        yield Finding("jetson", WARN, text, "use the board's own power supply, or a lower mode of nvpmodel")


def _memory(meminfo: Path) -> str:
    text = meminfo.read_text(encoding="ascii")
    kilobytes = {name: int(value) for name, value in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)}
    total, free = (kilobytes[name] / 2**20 for name in ("MemTotal", "MemAvailable"))
    return f"{total:.1f} GiB of memory, {free:.1f} available"


def _power_mode() -> str:
    """Return the power mode, such as "MAXN_SUPER"."""
    try:
        done = subprocess.run(
            ("nvpmodel", "-q"), capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown (nvpmodel does not answer)"
    found = re.search(r"NV Power Mode: (\S+)", done.stdout)
    return found[1] if found else "unknown"


def _jetpack(release: Path) -> Iterator[Finding]:
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
    except OSError:  # not installed, or not for this user
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
        name, *rest = (part.strip() for part in line.split(","))
        if len(rest) == 2:
            yield Finding("gpu", OK, f"{name}, {rest[1]}, driver {rest[0]}")
        else:  # such as "No devices were found"
            yield Finding("gpu", OK, f"nvidia-smi: {line.strip()}")


def _nvidia_smi() -> "subprocess.CompletedProcess[str]":
    return subprocess.run(_QUERY, capture_output=True, text=True, check=False, timeout=_SECONDS)


def _driver_shows_a_gpu() -> bool:
    try:
        done = _nvidia_smi()
    except (OSError, subprocess.TimeoutExpired):  # reported by `gpu`
        return False
    return done.returncode == 0 and "," in done.stdout


def cuda() -> Iterator[Finding]:
    """Check what TensorRT engines need of CUDA: a driver and a GPU that start."""
    try:
        found = nvidia.find_gpu()
    except EmotionError as error:
        if isinstance(error, CudaError) or _driver_shows_a_gpu():
            text = f"nvidia-smi shows a GPU, but CUDA does not start on it; {error}"
            yield Finding("cuda", WARN, text if _driver_shows_a_gpu() else str(error), _CUDA_FIX)
        else:
            yield Finding("cuda", WARN if on_jetson() else OK, f"{error}; only TensorRT engines need it")
        return
    properties = f"{found.name}, compute capability {found.compute_capability}"
    yield Finding("cuda", OK, f"the driver supports CUDA {found.driver}; {properties}")
    yield from _too_new(found.driver)


def _too_new(driver: str) -> Iterator[Finding]:
    """Report a TensorRT for a newer CUDA than the driver supports, which ends with error 35."""
    newest = driver.partition(".")[0]
    for name, version in installed("tensorrt").items():
        made_for = re.search(r"-cu(\d+)(-|$)", name)
        if made_for is None or name.endswith(("-bindings", "-libs")):
            continue
        if int(made_for[1]) > int(newest):
            needs = f"{name} {version} needs CUDA {made_for[1]}"
            other = name.replace(f"-cu{made_for[1]}", f"-cu{newest}")
            fix = f"update the driver, or pip uninstall -y {name} && pip install {other}"
            yield Finding("cuda", WARN, f"{needs}, but the driver supports CUDA {driver} (error 35)", fix)
