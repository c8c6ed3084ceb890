"""Find TensorRT and the GPU of this machine. Neither is needed to import this module."""

import ctypes
import importlib
import importlib.util
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from emotion_runtime.errors import EmotionError
from emotion_runtime.tensorrt.api import TensorRT
from emotion_runtime.tensorrt.driver import CAPABILITY_MAJOR, CAPABILITY_MINOR, MULTIPROCESSORS, Driver

if TYPE_CHECKING:
    import tensorrt

# `tensorrt` is for Jetson and all discrete GPUs; `tensorrt-rtx` is for RTX cards, and the only one that can
# build for a GPU of another machine. Their Python bindings have the same API, of which the common part is
# used.
Flavor = Literal["tensorrt", "tensorrt-rtx"]

_Created = TypeVar("_Created")

BUILD_AGAIN = "build it again with emotion-export trt --bundle DIR"

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

    @property
    def with_driver(self) -> str:
        """Name and driver, for which the result of a parity check holds."""
        return f"{self.name}, driver for CUDA {self.driver}"


def is_installed(flavor: Flavor) -> bool:
    """Return whether the Python module of a TensorRT flavor is installed; it may still not start."""
    spec = importlib.util.find_spec(flavor.replace("-", "_"))
    return spec is not None and spec.origin is not None  # a folder with type stubs alone has no origin


def load_tensorrt(flavor: Flavor) -> TensorRT:
    """Import the Python module of a TensorRT flavor.

    Raises:
        EmotionError: It is not installed, does not start, or is older than 10.3.
    """
    if not is_installed(flavor):
        raise EmotionError(f"{flavor} is not installed. {_INSTALL}")
    try:
        library = cast("TensorRT", importlib.import_module(flavor.replace("-", "_")))
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


def builder_name(flavor: Flavor, library: TensorRT) -> str:
    """Return flavor, exact version and platform: an engine built by one cannot be loaded by another."""
    return f"{flavor} {library.__version__} {platform.system()} {platform.machine()}"


def start(create: Callable[["tensorrt.ILogger"], _Created], logger: Any, what: str, cuda: str) -> _Created:
    """Create TensorRT's builder or runtime; its bindings raise TypeError if CUDA does not start.

    Args:
        create: `Builder` or `Runtime`.
        logger: From `make_logger`.
        what: What is started, for the message.
        cuda: Newest CUDA version that the driver supports; empty if unknown.
    """
    try:
        return create(logger)
    except (RuntimeError, TypeError) as error:
        supported = f"CUDA {cuda}" if cuda else "no CUDA"
        raise EmotionError(
            f"{what} does not start on this driver, which supports {supported} ({logger.reason()}; error 35 "
            "means that TensorRT needs a newer one): update the driver, or install the TensorRT that was "
            "made for this CUDA, such as tensorrt-cu12"
        ) from error


def find_gpu(driver: Driver | None = None) -> Gpu:
    """Return the first GPU that the driver, None: that of this machine, shows.

    Raises:
        EmotionError: There is no GPU with a working driver.
    """
    driver = driver or Driver()
    name = ctypes.create_string_buffer(256)
    driver.call("cuDeviceGetName", name, len(name), driver.device)
    memory = round(driver.get("cuDeviceTotalMem_v2", driver.device) / 2**30)
    processors, major, minor = (
        driver.get("cuDeviceGetAttribute", attribute, driver.device)
        for attribute in (MULTIPROCESSORS, CAPABILITY_MAJOR, CAPABILITY_MINOR)
    )
    described = f"{name.value.decode()} ({processors} multiprocessors, {memory} GiB)"
    return Gpu(described, f"{major}.{minor}", driver.version)
