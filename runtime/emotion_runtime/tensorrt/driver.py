"""The functions of CUDA's driver that TensorRT engines need, called through ctypes.

`libcuda` is part of every driver, so this needs no Python package, and none that is newer than the driver:
cuda-bindings 12.8 and 13 end with cudaErrorInsufficientDriver on JetPack 6. TensorRT works in the primary
context of the GPU, and so does this; a context is current in one thread only, so whoever works in another
thread calls `Driver.use` first.

UNVERIFIED on a GPU. Names and constants are compared with those of cuda-bindings, and arguments with a
library of Python functions.
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
_FIRST = 0  # CUDA_VISIBLE_DEVICES chooses another GPU
_LONGEST_NAME = 256


class CudaError(EmotionError):
    """A function of the driver failed: there is a driver, but it, the GPU or its memory is not usable."""


class Driver:
    """The driver, and the first GPU that it shows.

    Args:
        library: Replaces `libcuda` in tests.

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
        if self._status("cuInit", 0) == NO_DEVICE or not self._get("cuDeviceGetCount", c_int):
            raise EmotionError(
                "no usable GPU found (the driver shows no device): check it with nvidia-smi, start a "
                f"container with --gpus all, {_ELSEWHERE}"
            )
        self._call("cuInit", 0)
        self._device = self._get("cuDeviceGet", c_int, _FIRST)
        version = self._get("cuDriverGetVersion", c_int)  # 12060 means 12.6
        self.version = f"{version // 1000}.{version % 1000 // 10}"

    def name(self) -> str:
        """Return NVIDIA's name of the GPU."""
        text = ctypes.create_string_buffer(_LONGEST_NAME)
        self._call("cuDeviceGetName", text, _LONGEST_NAME, self._device)
        return text.value.decode()

    def attribute(self, attribute: int) -> int:
        """Return an attribute of the GPU, such as `MULTIPROCESSORS`."""
        return self._get("cuDeviceGetAttribute", c_int, attribute, self._device)

    def memory(self) -> int:
        """Return the memory of the GPU in bytes."""
        return self._get("cuDeviceTotalMem_v2", c_size_t, self._device)

    def use(self) -> None:
        """Make the primary context of the GPU, in which TensorRT works, current in this thread."""
        if self._context is None:
            self._context = self._get("cuDevicePrimaryCtxRetain", c_void_p, self._device)
        self._call("cuCtxSetCurrent", self._context)

    _context: int | None = None  # kept until the program ends: others in this process may use it, too

    def create_stream(self) -> int:
        """Return a new stream that does not wait for the default stream."""
        return self._get("cuStreamCreate", c_void_p, NON_BLOCKING)

    def destroy_stream(self, stream: int) -> None:
        """Free a stream."""
        self._call("cuStreamDestroy_v2", stream)

    def synchronize(self, stream: int) -> None:
        """Wait until the work of a stream is done."""
        self._call("cuStreamSynchronize", stream)

    def allocate(self, size: int) -> int:
        """Return the address of new memory on the GPU."""
        return self._get("cuMemAlloc_v2", c_uint64, size)

    def free(self, address: int) -> None:
        """Free memory on the GPU."""
        self._call("cuMemFree_v2", address)

    def allocate_host(self, size: int) -> int:
        """Return the address of new pinned memory of this process."""
        return self._get("cuMemHostAlloc", c_void_p, size, 0)

    def free_host(self, address: int) -> None:
        """Free pinned memory."""
        self._call("cuMemFreeHost", address)

    def copy_in(self, device: int, host: int, size: int, stream: int) -> None:
        """Enqueue a copy from pinned memory to the GPU."""
        self._call("cuMemcpyHtoDAsync_v2", device, host, size, stream)

    def copy_out(self, host: int, device: int, size: int, stream: int) -> None:
        """Enqueue a copy from the GPU to pinned memory."""
        self._call("cuMemcpyDtoHAsync_v2", host, device, size, stream)

    def begin_capture(self, stream: int) -> None:
        """Record the work that this thread enqueues, instead of running it."""
        self._call("cuStreamBeginCapture_v2", stream, THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """Return the recorded graph. Until then, even if enqueuing failed, the stream is unusable."""
        graph = c_void_p()
        self._call("cuStreamEndCapture", stream, byref(graph))
        return graph.value or 0

    def instantiate(self, graph: int) -> int:
        """Return a graph that can be launched, and free the recorded one."""
        try:
            return self._get("cuGraphInstantiateWithFlags", c_void_p, graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)

    def launch(self, executable: int, stream: int) -> None:
        """Enqueue all work of a graph."""
        self._call("cuGraphLaunch", executable, stream)

    def destroy_graph(self, executable: int) -> None:
        """Free a graph of `instantiate`."""
        self._call("cuGraphExecDestroy", executable)

    def _get(self, function: str, kind: Any, *args: Any) -> int:
        """Call a function whose first argument is where the result goes, and return the result."""
        result = kind()
        self._call(function, byref(result), *args)
        return int(result.value or 0)

    def _status(self, function: str, *args: Any) -> int:
        return int(getattr(self._library, function)(*args))

    def _call(self, function: str, *args: Any) -> None:
        if status := self._status(function, *args):
            name = c_char_p()
            self._status("cuGetErrorName", status, byref(name))
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
