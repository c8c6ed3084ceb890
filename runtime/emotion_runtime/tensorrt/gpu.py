"""Find TensorRT, CUDA and the GPU of this machine. None of them is needed to import this module."""

import importlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from emotion_runtime.errors import EmotionError

# `tensorrt` is for Jetson and all discrete GPUs; `tensorrt-rtx` is for RTX cards, and the only one that can
# build for a GPU of another machine. Their Python bindings have the same API, of which the common part is
# used.
Flavor = Literal["tensorrt", "tensorrt-rtx"]

_DRIVER_TOO_OLD = 35  # cudaErrorInsufficientDriver

OLDEST_TENSORRT = (10, 3)  # JetPack 6.1; strongly typed networks, named tensors and uint8 inputs

_INSTALL = (
    "On a Jetson: sudo apt install python3-libnvinfer, and create the environment with `python3 -m venv "
    "--system-site-packages`. With a discrete GPU: pip install tensorrt. With an RTX card, or without a GPU: "
    "pip install tensorrt-rtx, then use --flavor rtx (emotion-runtime: --backend tensorrt-rtx)"
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """The properties of a GPU that an engine depends on.

    Attributes:
        name: NVIDIA's name, number of multiprocessors and memory, for example "Orin (8 multiprocessors,
            7 GiB)": all modules of a family have the same name and compute capability.
        compute_capability: For example "8.6"; of several GPUs, separated by spaces.
        driver: Newest CUDA version that the driver supports, for example "12.6"; empty for a GPU of another
            machine.
    """

    name: str
    compute_capability: str
    driver: str = ""


def is_installed(flavor: Flavor) -> bool:
    """Return whether the Python module of a TensorRT flavor is installed; it may still not start."""
    spec = importlib.util.find_spec(flavor.replace("-", "_"))
    return spec is not None and spec.origin is not None  # a folder with type stubs alone has no origin


def load_tensorrt(flavor: Flavor) -> ModuleType:
    """Import the Python module of a TensorRT flavor.

    Raises:
        EmotionError: It is not installed, does not start, or is older than 10.3.
    """
    module = flavor.replace("-", "_")
    try:
        library = importlib.import_module(module)
        library.__version__  # noqa: B018 - type stubs alone are an empty module
    except ModuleNotFoundError as error:
        raise EmotionError(f"{flavor} is not installed ({error.name} not found). {_INSTALL}") from error
    except AttributeError as error:
        raise EmotionError(f"{flavor} is not installed (only its type stubs are). {_INSTALL}") from error
    except (ImportError, OSError) as error:  # the bindings are installed, but their libraries are not
        reason = " ".join(str(error).split())
        raise EmotionError(f"{flavor} is installed but does not start ({reason}). {_INSTALL}") from error
    version = tuple(int(part) for part in library.__version__.split(".")[:2])
    if flavor == "tensorrt" and version < OLDEST_TENSORRT:
        raise EmotionError(
            f"tensorrt {library.__version__} is too old, expected 10.3 or newer: on a Jetson install "
            "JetPack 6.1 or newer, elsewhere pip install --upgrade tensorrt"
        )
    return library


def builder_name(flavor: Flavor, library: ModuleType) -> str:
    """Return flavor, exact version and platform: an engine built by one cannot be loaded by another."""
    return f"{flavor} {library.__version__} {platform.system()} {platform.machine()}"


def load_cuda() -> ModuleType:
    """Import cuda-python's `cuda.bindings.runtime`.

    Raises:
        EmotionError: It is not installed, or does not start.
    """
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ModuleNotFoundError as error:
        raise EmotionError(
            "cuda-python is not installed: pip install cuda-bindings==12.* for CUDA 12 (JetPack 6), "
            "pip install cuda-bindings for CUDA 13"
        ) from error
    except (ImportError, OSError) as error:  # the bindings are installed, but their libraries are not
        reason = " ".join(str(error).split())
        raise EmotionError(
            f"cuda-python is installed but does not start ({reason}): pip install --force-reinstall "
            "cuda-bindings, for the CUDA version that nvidia-smi shows"
        ) from error


def call(function: Callable[..., tuple[Any, ...]], *args: Any) -> Any:
    """Call a function of `cuda.bindings.runtime` and return its result without the status, or None.

    Raises:
        EmotionError: CUDA reports an error.
    """
    status, *results = function(*args)
    if int(status):
        raise EmotionError(
            f"CUDA: {function.__name__} failed with {status.name}: check driver and memory with nvidia-smi "
            "(Jetson: tegrastats)"
        )
    return results[0] if results else None


def find_gpu(cuda: ModuleType | None = None) -> Gpu:
    """Return the first GPU that CUDA shows; `CUDA_VISIBLE_DEVICES` chooses another one.

    Args:
        cuda: The module of `load_cuda`; None: import it.

    Raises:
        EmotionError: cuda-python is not installed, or there is no GPU with a working driver.
    """
    cuda = cuda or load_cuda()
    status, count = cuda.cudaGetDeviceCount()
    if int(status) == _DRIVER_TOO_OLD and int(call(cuda.cudaDriverGetVersion)):  # 0: there is no driver
        raise EmotionError(_driver_too_old(cuda))
    if int(status) or not count:
        raise EmotionError(
            f"no usable GPU found ({status.name if int(status) else 'CUDA reports no device'}): check the "
            "driver with nvidia-smi, or build for the GPU of another machine with emotion-export trt "
            "--flavor rtx --target SM86"
        )
    properties = call(cuda.cudaGetDeviceProperties, 0)
    memory = round(properties.totalGlobalMem / 2**30)
    name = f"{properties.name.decode()} ({properties.multiProcessorCount} multiprocessors, {memory} GiB)"
    return Gpu(name, f"{properties.major}.{properties.minor}", _driver_version(cuda))


def _driver_version(cuda: ModuleType) -> str:
    """Return the newest CUDA version that the driver supports."""
    code = int(call(cuda.cudaDriverGetVersion))  # 12060 means 12.6
    return f"{code // 1000}.{code % 1000 // 10}"


def _driver_too_old(cuda: ModuleType) -> str:
    """Return the message for cuda-bindings that are newer than the driver, with the fix."""
    driver, bindings = _driver_version(cuda), importlib.metadata.version("cuda-bindings")
    major = driver.partition(".")[0]
    fix = f"pip install 'cuda-bindings=={major}.*'"
    if bindings.partition(".")[0] == major:
        newer = ".".join(bindings.split(".")[:2])
        fix = f"update the driver (Jetson: sudo apt install cuda-compat-{newer.replace('.', '-')})"
    return (
        f"the GPU driver supports CUDA {driver}, but the installed cuda-bindings {bindings} need a newer one "
        f"(cudaErrorInsufficientDriver): {fix}"
    )
