"""Stand-ins for CUDA and TensorRT that need no GPU and check every call against the rules of both.

Memory is real: "device" addresses point to arrays, copies copy, and the engine computes when its stream runs.
"""

import ctypes
from dataclasses import dataclass, field
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np

MOST = 8  # maximum number of persons of the engine
T, D = 4, 3


# Of `cudaError_t`.
Status = IntEnum(
    "Status",
    {"cudaSuccess": 0, "cudaErrorMemoryAllocation": 2, "cudaErrorStreamCaptureInvalidated": 901},
)


class Memory:
    """Blocks of memory by address. A block must be allocated before it is used, and freed once."""

    def __init__(self) -> None:
        self.blocks: dict[int, Any] = {}

    def allocate(self, size: int) -> int:
        block = (ctypes.c_byte * size)()
        address = ctypes.addressof(block)
        self.blocks[address] = block
        return address

    def free(self, address: int) -> None:
        del self.blocks[address]

    def check(self, address: int, size: int) -> None:
        assert size <= len(self.blocks[address]), "beyond the end of the buffer"


class Cuda:
    """`cuda.bindings.runtime`. `calls` has the names of all calls; the stream runs at synchronisation."""

    def __init__(self, *, devices: int = 1, fail: str = "") -> None:
        self.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="in", cudaMemcpyDeviceToHost="out")
        self.cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread")
        self.device, self.host = Memory(), Memory()
        self.calls: list[str] = []
        self.queue: list[Any] = []
        self.captured: list[Any] | None = None
        self.streams: set[int] = set()
        self.graphs: set[int] = set()
        self.invalidated = False  # captures cannot end: work of another thread got into them
        self._devices, self.fail = devices, fail

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if not callable(value) or not name.startswith("cuda"):
            return value

        def function(*args: Any) -> Any:
            self.calls.append(name)
            if name == self.fail:
                return Status.cudaErrorMemoryAllocation, None
            return value(*args)

        function.__name__ = name
        return function

    def cudaGetDeviceCount(self):  # noqa: N802 - CUDA's names, here and below
        return Status.cudaSuccess, self._devices

    def cudaGetDeviceProperties(self, device: int):  # noqa: N802
        assert device == 0
        return Status.cudaSuccess, SimpleNamespace(
            name=b"Test GPU", major=8, minor=7, multiProcessorCount=8, totalGlobalMem=7_900_000_000
        )

    def cudaDriverGetVersion(self):  # noqa: N802
        return Status.cudaSuccess, 12060

    def cudaStreamCreateWithFlags(self, flags: int):  # noqa: N802
        assert flags == 1, "a blocking stream"
        self.streams.add(77)
        return Status.cudaSuccess, 77

    def cudaStreamDestroy(self, stream: int):  # noqa: N802
        self.streams.remove(stream)
        return (Status.cudaSuccess,)

    def cudaMalloc(self, size: int):  # noqa: N802
        return Status.cudaSuccess, self.device.allocate(size)

    def cudaFree(self, address: int):  # noqa: N802
        self.device.free(address)
        return (Status.cudaSuccess,)

    def cudaHostAlloc(self, size: int, flags: int):  # noqa: N802
        assert flags == 0
        return Status.cudaSuccess, self.host.allocate(size)

    def cudaFreeHost(self, address: int):  # noqa: N802
        self.host.free(address)
        return (Status.cudaSuccess,)

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: str, stream: int):  # noqa: N802
        memories = (self.device, self.host) if kind == "in" else (self.host, self.device)
        for memory, address in zip(memories, (to, source), strict=True):
            memory.check(address, size)
        self.enqueue(lambda: ctypes.memmove(to, source, size), stream)
        return (Status.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: int, mode: str):  # noqa: N802
        assert (stream, mode, self.captured) == (77, "thread", None)
        self.captured = []
        return (Status.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: int):  # noqa: N802
        assert stream == 77
        captured, self.captured = self.captured, None
        assert captured is not None
        if self.invalidated:
            return Status.cudaErrorStreamCaptureInvalidated, None
        return Status.cudaSuccess, captured

    def cudaGraphInstantiate(self, graph: list[Any], flags: int):  # noqa: N802
        assert flags == 0
        executable = Executable(list(graph))
        self.graphs.add(id(executable))
        return Status.cudaSuccess, executable

    def cudaGraphDestroy(self, graph: list[Any]):  # noqa: N802
        graph.clear()
        return (Status.cudaSuccess,)

    def cudaGraphExecDestroy(self, executable: "Executable"):  # noqa: N802
        self.graphs.remove(id(executable))
        return (Status.cudaSuccess,)

    def cudaGraphLaunch(self, executable: "Executable", stream: int):  # noqa: N802
        for work in executable.work:
            self.enqueue(work, stream)
        return (Status.cudaSuccess,)

    def cudaStreamSynchronize(self, stream: int):  # noqa: N802
        assert stream in self.streams
        assert self.captured is None, "a stream in capture cannot be waited for"
        for work in self.queue:
            work()
        self.queue.clear()
        return (Status.cudaSuccess,)

    def enqueue(self, work: Any, stream: int) -> None:
        assert stream in self.streams
        (self.queue if self.captured is None else self.captured).append(work)


@dataclass(eq=False)
class Executable:
    work: list[Any]


@dataclass
class Context:
    """An execution context that rejects what TensorRT rejects."""

    engine: "Engine"
    shape: tuple[int, ...] = ()
    addresses: dict[str, int] = field(default_factory=dict)
    scratch: int = 0
    runs: int = 0

    def set_device_memory(self, address: int, size: int) -> None:
        self.engine.cuda.device.check(address, size)
        self.scratch = address

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "embeddings"
        assert not self.runs, "a captured graph is tied to the shapes of its context"
        self.shape = tuple(shape)
        return 1 <= shape[0] <= MOST

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert self.shape
        return self.shape if name == "embeddings" else (self.shape[0], D)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.engine.cuda.device.check(address, int(np.prod(self.get_tensor_shape(name))) * 4)
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert set(self.addresses) == {"embeddings", "features"}
        assert self.scratch
        if self.engine.refuses == "always" or (self.engine.refuses and self.engine.cuda.captured is not None):
            return False
        if self.runs == 0:
            assert self.engine.cuda.captured is None, "the first run allocates, which breaks a capture"
        self.runs += 1
        self.engine.cuda.enqueue(self._compute, stream)
        return True

    def _compute(self) -> None:
        """Sum over time, in the memory that the addresses point to."""
        size = int(np.prod(self.shape))
        source = (ctypes.c_float * size).from_address(self.addresses["embeddings"])
        target = (ctypes.c_float * (self.shape[0] * D)).from_address(self.addresses["features"])
        target[:] = list(np.frombuffer(source, np.float32).reshape(self.shape).sum(axis=1).ravel())


class Engine:
    """`ICudaEngine` of a temporal encoder that sums over time."""

    num_io_tensors = 2
    device_memory_size_v2 = 1000

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.contexts: list[Context] = []
        self.refuses = ""  # "always" or "in a capture"
        self.full = False

    def get_tensor_name(self, index: int) -> str:
        return ("features", "embeddings")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name == "embeddings" else "output"

    def get_tensor_dtype(self, _name: str) -> str:
        return "FLOAT"

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert (name, profile) == ("embeddings", 0)
        return [(1, T, D), (4, T, D), (MOST, T, D)]

    def create_execution_context(self, strategy: str) -> Context | None:
        assert strategy == "user"
        if self.full:
            return None
        self.contexts.append(Context(self))
        return self.contexts[-1]

    def create_engine_inspector(self) -> Any:
        return SimpleNamespace(get_engine_information=lambda form: f'{{"form": "{form}"}}')


class Library:
    """The module `tensorrt`."""

    __version__ = "10.3.0"
    TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user")
    LayerInformationFormat = SimpleNamespace(JSON="json")

    def __init__(self, engine: Engine | None) -> None:
        self._engine = engine
        self.given: list[bytes] = []

    class Logger:
        ERROR = 1

        def __init__(self, severity: int) -> None:
            assert severity == self.ERROR

    def Runtime(self, _logger: "Library.Logger") -> Any:  # noqa: N802 - TensorRT's name
        def deserialize_cuda_engine(content: bytes) -> Engine | None:
            self.given.append(content)
            return self._engine

        return SimpleNamespace(deserialize_cuda_engine=deserialize_cuda_engine)

    def nptype(self, name: str) -> type:
        return {"FLOAT": np.float32}[name]
