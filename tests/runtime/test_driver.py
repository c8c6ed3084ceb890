"""The binding of CUDA's driver: what reaches a C library, and what it is compared with.

The library of these tests has C functions that are written in Python, so arguments pass through ctypes as
on a GPU: an address that ctypes would cut to 32 bits arrives cut.
"""

import ctypes
import importlib.metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from emotion_runtime.errors import EmotionError
from emotion_runtime.tensorrt import driver
from emotion_runtime.tensorrt.driver import FUNCTIONS, CudaError, Driver
from emotion_runtime.tensorrt.gpu import Gpu, find_gpu

ADDRESS = 0x7F12_3456_789A_BCDE  # needs 64 bits
RESULTS = {
    "cuDriverGetVersion": (ctypes.c_int, 12060),
    "cuDeviceGetCount": (ctypes.c_int, 1),
    "cuDeviceGet": (ctypes.c_int, 3),
    "cuDeviceTotalMem_v2": (ctypes.c_size_t, 2**36),
    "cuDeviceGetAttribute": (ctypes.c_int, 16),
    "cuDevicePrimaryCtxRetain": (ctypes.c_void_p, ADDRESS),
    "cuStreamCreate": (ctypes.c_void_p, ADDRESS + 1),
    "cuMemAlloc_v2": (ctypes.c_uint64, ADDRESS + 2),
    "cuMemHostAlloc": (ctypes.c_void_p, ADDRESS + 3),
    "cuGraphInstantiateWithFlags": (ctypes.c_void_p, ADDRESS + 4),
}
WITH_RESULTS_ELSEWHERE = ("cuGetErrorName", "cuDeviceGetName", "cuStreamEndCapture")
ERROR = ctypes.create_string_buffer(b"CUDA_ERROR_OUT_OF_MEMORY")


class Library:
    """`libcuda`. calls: the name and the arguments of each call. status: what a function returns."""

    def __init__(self, status: dict[str, int] | None = None) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.status = status or {}
        for name, types in FUNCTIONS.items():
            in_c = [ctypes.c_void_p if kind is ctypes.c_char_p else kind for kind in types]
            setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_int, *in_c)(self._function(name)))

    def _function(self, name: str) -> Any:
        def function(*args: Any) -> int:
            self.calls.append((name, args))
            if name in RESULTS:
                kind, value = RESULTS[name]
                kind.from_address(args[0]).value = value
            if name == "cuStreamEndCapture":
                ctypes.c_void_p.from_address(args[1]).value = ADDRESS + 5
            if name == "cuDeviceGetName":
                ctypes.memmove(args[0], b"Orin\0", 5)
            if name == "cuGetErrorName":
                ctypes.c_void_p.from_address(args[1]).value = ctypes.addressof(ERROR)
            return self.status.get(name, 0)

        return function


@pytest.fixture
def library() -> Library:
    return Library()


def test_the_gpu_and_its_properties(library: Library):
    assert find_gpu(Driver(library)) == Gpu("Orin (16 multiprocessors, 64 GiB)", "16.16", "12.6")
    name, (_, attribute, device) = library.calls[-1]
    assert (name, attribute, device) == ("cuDeviceGetAttribute", driver.CAPABILITY_MINOR, 3)


def test_addresses_and_handles_keep_their_64_bits(library: Library):
    found = Driver(library)
    for function, kinds in FUNCTIONS.items():
        if function in RESULTS:
            assert found.get(function, *(7 for _ in kinds[1:])) == RESULTS[function][1]
        elif function not in WITH_RESULTS_ELSEWHERE:
            given = tuple(ADDRESS + i if ctypes.sizeof(kind) == 8 else i for i, kind in enumerate(kinds))
            found.call(function, *given)
            assert library.calls[-1] == (function, given)


def test_a_recorded_graph_is_returned_through_an_argument(library: Library):
    graph = ctypes.c_void_p()
    Driver(library).call("cuStreamEndCapture", ADDRESS, ctypes.byref(graph))
    assert graph.value == ADDRESS + 5


def test_the_primary_context_is_made_current_in_each_thread(library: Library):
    found = Driver(library)
    for _ in range(2):
        found.use()
    names = [name for name, _ in library.calls]
    assert names.count("cuDevicePrimaryCtxRetain") == 1
    assert [args for name, args in library.calls if name == "cuCtxSetCurrent"] == [(ADDRESS,)] * 2


def one_line(error: pytest.ExceptionInfo[EmotionError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_error_has_the_name_of_function_and_status():
    found = Driver(Library({"cuMemAlloc_v2": 2}))
    with pytest.raises(CudaError, match="CUDA: cuMemAlloc_v2 failed with CUDA_ERROR_OUT_OF_MEMORY") as error:
        found.get("cuMemAlloc_v2", 1)
    one_line(error)


def test_a_driver_that_does_not_start_is_broken_but_one_without_a_gpu_is_not(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(CudaError, match="cuInit failed with") as error:
        Driver(Library({"cuInit": 803, "cuDeviceGetCount": 3}))  # 3: not initialised
    one_line(error)
    with pytest.raises(EmotionError, match="no usable GPU found") as error:
        Driver(Library({"cuInit": driver.NO_DEVICE}))
    assert not isinstance(error.value, CudaError)
    monkeypatch.setitem(RESULTS, "cuDeviceGetCount", (ctypes.c_int, 0))
    with pytest.raises(EmotionError, match="no usable GPU found") as error:
        Driver(Library())
    one_line(error)


def test_no_driver_and_an_old_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(driver, "LIBRARY", "libcuda-of-nobody.so.1")
    with pytest.raises(EmotionError, match=r"there is no NVIDIA driver: libcuda-of-nobody\.so\.1") as error:
        Driver()
    assert "--target SM86" in one_line(error)
    with pytest.raises(EmotionError, match="has no cuInit: update the NVIDIA driver") as error:
        Driver(SimpleNamespace())
    one_line(error)


def test_constants_are_those_of_cuda():
    cuda = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings are not installed")
    attribute, mode = cuda.CUdevice_attribute, cuda.CUstreamCaptureMode
    assert driver.MULTIPROCESSORS == attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
    assert driver.CAPABILITY_MAJOR == attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
    assert driver.CAPABILITY_MINOR == attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR
    assert driver.NON_BLOCKING == cuda.CUstream_flags.CU_STREAM_NON_BLOCKING
    assert driver.THREAD_LOCAL == mode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    assert driver.NO_DEVICE == cuda.CUresult.CUDA_ERROR_NO_DEVICE


def test_functions_are_those_that_nvidias_own_binding_looks_up():
    pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings are not installed")
    files = [Path(str(file.locate())) for file in importlib.metadata.files("cuda-bindings") or ()]
    content = b"".join(file.read_bytes() for file in files if file.suffix == ".so" and "driver" in file.name)
    assert [name for name in FUNCTIONS if name.encode() + b"\0" not in content] == []
