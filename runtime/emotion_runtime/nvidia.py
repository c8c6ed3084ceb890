"""What this machine has of NVIDIA's: a TensorRT flavour, a GPU. Neither is needed to import this module."""

import importlib
import platform
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from emotion_runtime.errors import EmotionError

# `tensorrt` is on Jetson and for every discrete GPU; `tensorrt-rtx` is for RTX cards, and the only one that
# builds for a GPU that is not there. The bindings of both have one API, of which the common part is used.
Flavor = Literal["tensorrt", "tensorrt-rtx"]

OLDEST_TENSORRT = (10, 3)  # JetPack 6.1; strongly typed networks, named tensors and uint8 inputs

_WAYS = (
    "Jetson: sudo apt install python3-libnvinfer, in an environment made with `python3 -m venv "
    "--system-site-packages`; discrete GPU: pip install tensorrt; RTX PC, or no GPU at all: pip install "
    "tensorrt-rtx, then --flavor rtx (of emotion-runtime: --backend tensorrt-rtx)"
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as engines are tied to it. name: NVIDIA's. compute_capability: as "8.6".

    driver: newest CUDA that the driver serves, as "12.6"; empty where no GPU is meant that is here.
    """

    name: str
    compute_capability: str
    driver: str = ""


def load_tensorrt(flavor: Flavor) -> ModuleType:
    """The Python module of a TensorRT flavour.

    Raises:
        EmotionError: it is not installed, does not start, or is older than 10.3.

    """
    module = flavor.replace("-", "_")
    try:
        library = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise EmotionError(f"{flavor} is not installed ({error.name} not found). {_WAYS}") from error
    except (ImportError, OSError) as error:  # the bindings are there, the libraries below them are not
        reason = " ".join(str(error).split())
        raise EmotionError(f"{flavor} is installed and does not start ({reason}). {_WAYS}") from error
    version = tuple(int(part) for part in library.__version__.split(".")[:2])
    if flavor == "tensorrt" and version < OLDEST_TENSORRT:
        raise EmotionError(
            f"tensorrt {library.__version__} is too old, expected 10.3 or newer: on a Jetson install "
            "JetPack 6.1 or newer, elsewhere pip install --upgrade tensorrt"
        )
    return library


def builder_name(flavor: Flavor, library: ModuleType) -> str:
    """A flavour, its exact version and the platform: an engine made by one cannot be loaded by another."""
    return f"{flavor} {library.__version__} {platform.system()} {platform.machine()}"


def load_cuda() -> ModuleType:
    """cuda-python's `cuda.bindings.runtime`.

    Raises:
        EmotionError: it is not installed, or does not start.

    """
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ModuleNotFoundError as error:
        raise EmotionError(
            "cuda-python is not installed: pip install cuda-bindings==12.* for CUDA 12 (JetPack 6), "
            "pip install cuda-bindings for CUDA 13"
        ) from error
    except (ImportError, OSError) as error:  # the bindings are there, the libraries below them are not
        reason = " ".join(str(error).split())
        raise EmotionError(
            f"cuda-python is installed and does not start ({reason}): pip install --force-reinstall "
            "cuda-bindings, of the CUDA that nvidia-smi says"
        ) from error


def call(function: Callable[..., tuple[Any, ...]], *args: Any) -> Any:
    """Call a function of `cuda.bindings.runtime`; returns its result without the status, or None.

    Raises:
        EmotionError: CUDA reports an error.

    """
    status, *results = function(*args)
    if int(status):
        raise EmotionError(
            f"CUDA: {function.__name__} failed with {status.name}: see what nvidia-smi (Jetson: tegrastats) "
            "says of driver and memory"
        )
    return results[0] if results else None


def find_gpu(cuda: ModuleType | None = None) -> Gpu:
    """The first GPU that CUDA shows (`CUDA_VISIBLE_DEVICES` chooses).

    cuda: `load_cuda()`, or what stands in for it.

    Raises:
        EmotionError: cuda-python is not installed, or there is no GPU with a driver that works.

    """
    cuda = cuda or load_cuda()
    status, count = cuda.cudaGetDeviceCount()
    if int(status) or not count:
        raise EmotionError(
            f"no GPU is to be had ({status.name if int(status) else 'CUDA shows none'}): see what nvidia-smi "
            "says, or build for a GPU elsewhere with export/to_trt.py --flavor rtx --target SM86"
        )
    properties = call(cuda.cudaGetDeviceProperties, 0)
    driver = int(call(cuda.cudaDriverGetVersion))  # 12060 is 12.6
    return Gpu(
        properties.name.decode(),
        f"{properties.major}.{properties.minor}",
        f"{driver // 1000}.{driver % 1000 // 10}",
    )
