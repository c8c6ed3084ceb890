"""The functions of CUDA's driver that TensorRT engines need, called through ctypes.

`libcuda` is part of every driver, so this needs no Python package, and none that is newer than the driver:
cuda-bindings 12.8 and 13 end with cudaErrorInsufficientDriver on JetPack 6. TensorRT works in the primary
context of the GPU, and so does this; a context is current in one thread only, so whoever works in another
thread calls `Driver.use` first.

Verified on an H200 by `pytest -m gpu tests/runtime`. CI compares names and constants with those of
cuda-bindings, and arguments with a library of Python functions.
"""

import ctypes
import sys
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any, Final

from emotion_runtime.errors import EmotionError

LIBRARY: Final = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

# The types of the arguments; each function returns a status, 0 if it succeeded. Without the types, ctypes
# would pass addresses as 32-bit integers.
_POINTER = c_void_p  # handles, host addresses and where a result goes
FUNCTIONS: Final[dict[str, tuple[Any, ...]]] = {
    "cuInit": (c_uint,),
    "cuGetErrorName": (c_int, _POINTER),
    "cuDriverGetVersion": (_POINTER,),
    "cuDeviceGetCount": (_POINTER,),
    "cuDeviceGet": (_POINTER, c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceTotalMem_v2": (_POINTER, c_int),
    "cuDeviceGetAttribute": (_POINTER, c_int, c_int),
    "cuDevicePrimaryCtxRetain": (_POINTER, c_int),
    "cuCtxSetCurrent": (_POINTER,),
    "cuStreamCreate": (_POINTER, c_uint),
    "cuStreamDestroy_v2": (_POINTER,),
    "cuStreamSynchronize": (_POINTER,),
    "cuStreamBeginCapture_v2": (_POINTER, c_int),
    "cuStreamEndCapture": (_POINTER, _POINTER),
    "cuGraphInstantiateWithFlags": (_POINTER, _POINTER, c_uint64),
    "cuGraphLaunch": (_POINTER, _POINTER),
    "cuGraphDestroy": (_POINTER,),
    "cuGraphExecDestroy": (_POINTER,),
    "cuMemAlloc_v2": (_POINTER, c_size_t),
    "cuMemFree_v2": (c_uint64,),
    "cuMemHostAlloc": (_POINTER, c_size_t, c_uint),
    "cuMemFreeHost": (_POINTER,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, _POINTER, c_size_t, _POINTER),
    "cuMemcpyDtoHAsync_v2": (_POINTER, c_uint64, c_size_t, _POINTER),
}

MULTIPROCESSORS: Final = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
CAPABILITY_MAJOR: Final = 75
CAPABILITY_MINOR: Final = 76
NON_BLOCKING: Final = 1  # CU_STREAM_NON_BLOCKING: work of others on the default stream ends no capture
THREAD_LOCAL: Final = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: another thread may allocate meanwhile
NO_DEVICE: Final = 100  # CUDA_ERROR_NO_DEVICE

_ELSEWHERE = "or build for the GPU of another machine with emotion-export trt --flavor rtx --target SM86"


class CudaError(EmotionError):
    """A function of the driver failed: there is a driver, but it, the GPU or its memory is not usable."""


class Driver:
    """The driver, and the first GPU that it shows.

    Args:
        library: Replaces `libcuda` in tests.

    Attributes:
        device: The driver's handle of the GPU.
        version: Newest CUDA version that the driver supports, for example "12.6".

    Raises:
        EmotionError: There is no driver, or it has no GPU.
        CudaError: The driver does not start.
    """

    def __init__(self, library: Any = None) -> None:
        self._library = library or _load()
        for name, types in FUNCTIONS.items():
            function = getattr(self._library, name, None)
            if function is None:
                raise EmotionError(f"{LIBRARY} has no {name}: update the NVIDIA driver (JetPack 6 or newer)")
            function.argtypes, function.restype = types, c_int
        present = self._library.cuInit(0) != NO_DEVICE
        if present:
            self.call("cuInit", 0)  # raises any other error by its name
        if not present or not self.get("cuDeviceGetCount"):
            raise EmotionError(
                "no usable GPU found (the driver shows no device): check it with nvidia-smi, start a "
                f"container with --gpus all, {_ELSEWHERE}"
            )
        self.device = self.get("cuDeviceGet", 0)  # CUDA_VISIBLE_DEVICES chooses another GPU
        version = self.get("cuDriverGetVersion")  # 12060 means 12.6
        self.version = f"{version // 1000}.{version % 1000 // 10}"
        self._context: int | None = None  # kept until the program ends: others may use it, too

    def use(self) -> None:
        """Make the primary context of the GPU, in which TensorRT works, current in this thread."""
        if self._context is None:
            self._context = self.get("cuDevicePrimaryCtxRetain", self.device)
        self.call("cuCtxSetCurrent", self._context)

    def get(self, function: str, *args: Any) -> int:
        """Call one of `FUNCTIONS` whose first argument is where its result goes; return the result."""
        result = c_uint64()  # large enough for every result, of which an int fills the first bytes
        self.call(function, byref(result), *args)
        return result.value

    def call(self, function: str, *args: Any) -> None:
        """Call one of `FUNCTIONS`.

        Raises:
            CudaError: It failed.
        """
        if status := getattr(self._library, function)(*args):
            name = c_char_p()
            self._library.cuGetErrorName(status, byref(name))
            reason = name.value.decode() if name.value else f"status {status}"
            raise CudaError(
                f"CUDA: {function} failed with {reason}: check driver and memory with nvidia-smi "
                "(Jetson: tegrastats)"
            )


def _load() -> Any:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise EmotionError(
            f"no usable GPU found (there is no NVIDIA driver: {LIBRARY}): install the driver, {_ELSEWHERE}"
        ) from error
