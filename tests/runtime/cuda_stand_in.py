# ruff: noqa: N802 - names of CUDA and TensorRT
"""Stand-ins for CUDA and TensorRT that need no GPU and check every call against the rules of both.

Functions have the names of CUDA's driver. Memory is real: "device" addresses point to arrays, copies copy,
and the engine computes when its stream runs.
"""

import ctypes
import threading
from dataclasses import dataclass, field
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np

from emotion_runtime.tensorrt.driver import (
    CAPABILITY_MAJOR,
    CAPABILITY_MINOR,
    FUNCTIONS,
    MULTIPROCESSORS,
    NON_BLOCKING,
    THREAD_LOCAL,
    CudaError,
)

MOST = 8  # maximum number of persons of the engine
T, D = 4, 3


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
    """A `Driver`. `calls` has the names of all calls; the stream runs at synchronisation.

    fail: name of the function that fails. invalidated: captures cannot end, because
    work of another thread got into them.
    """

    version = "12.6"
    device = 3
    memory = 7_900_000_000
    multiprocessors = 8

    def __init__(self, *, fail: str = "") -> None:
        self.blocks, self.pinned = Memory(), Memory()
        self.calls: list[str] = []
        self.queue: list[Any] = []
        self.captured: list[Any] | None = None
        self.streams: set[int] = set()
        self.graphs: dict[int, list[Any]] = {}
        self.invalidated = False
        self.fail = fail
        self.thread = 0  # the one in which the context is current

    def use(self) -> None:
        self.calls.append("use")
        self.thread = threading.get_ident()

    def call(self, function: str, *args: Any) -> None:
        self.get(function, *args)

    def get(self, function: str, *args: Any) -> Any:
        self.calls.append(function)
        if function == self.fail:
            raise CudaError(f"CUDA: {function} failed with CUDA_ERROR_OUT_OF_MEMORY")
        assert function.startswith("cuDevice") or self.thread == threading.get_ident(), "no current context"
        # One argument less than in C if the first one is where the result goes.
        assert len(FUNCTIONS[function]) - len(args) in (0, 1)
        return getattr(self, function)(*args)

    def cuDeviceGetName(self, text: Any, size: int, device: int) -> None:
        assert (size, device) == (len(text), self.device)
        text.value = b"Test GPU"

    def cuDeviceTotalMem_v2(self, device: int) -> int:
        assert device == self.device
        return self.memory

    def cuDeviceGetAttribute(self, attribute: int, device: int) -> int:
        assert device == self.device
        return {MULTIPROCESSORS: self.multiprocessors, CAPABILITY_MAJOR: 8, CAPABILITY_MINOR: 7}[attribute]

    def cuStreamCreate(self, flags: int) -> int:
        assert flags == NON_BLOCKING
        self.streams.add(77)
        return 77

    def cuStreamDestroy_v2(self, stream: int) -> None:
        self.streams.remove(stream)

    def cuMemAlloc_v2(self, size: int) -> int:
        return self.blocks.allocate(size)

    def cuMemFree_v2(self, address: int) -> None:
        self.blocks.free(address)

    def cuMemHostAlloc(self, size: int, flags: int) -> int:
        assert flags == 0
        return self.pinned.allocate(size)

    def cuMemFreeHost(self, address: int) -> None:
        self.pinned.free(address)

    def cuMemcpyHtoDAsync_v2(self, device: int, host: int, size: int, stream: int) -> None:
        self._copy(device, host, size, stream, (self.blocks, self.pinned))

    def cuMemcpyDtoHAsync_v2(self, host: int, device: int, size: int, stream: int) -> None:
        self._copy(host, device, size, stream, (self.pinned, self.blocks))

    def _copy(self, to: int, source: int, size: int, stream: int, memories: tuple[Memory, Memory]) -> None:
        for memory, address in zip(memories, (to, source), strict=True):
            memory.check(address, size)
        self.enqueue(lambda: ctypes.memmove(to, source, size), stream)

    def cuStreamBeginCapture_v2(self, stream: int, mode: int) -> None:
        assert (stream, mode, self.captured) == (77, THREAD_LOCAL, None)
        self.captured = []

    def cuStreamEndCapture(self, stream: int, graph: Any) -> None:
        assert stream == 77
        captured, self.captured = self.captured, None
        assert captured is not None
        if self.invalidated:
            raise CudaError("CUDA: cuStreamEndCapture failed with CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")
        ctypes.cast(graph, ctypes.POINTER(ctypes.c_void_p))[0] = 88
        self.graphs[88] = captured

    def cuGraphInstantiateWithFlags(self, graph: int, flags: int) -> int:
        assert (graph, flags) == (88, 0)
        executable = 100 + len(self.graphs)
        self.graphs[executable] = self.graphs[graph]
        return executable

    def cuGraphDestroy(self, graph: int) -> None:
        del self.graphs[graph]

    def cuGraphExecDestroy(self, executable: int) -> None:
        del self.graphs[executable]

    def cuGraphLaunch(self, executable: int, stream: int) -> None:
        for work in self.graphs[executable]:
            self.enqueue(work, stream)

    def cuStreamSynchronize(self, stream: int) -> None:
        assert stream in self.streams
        assert self.captured is None, "a stream in capture cannot be waited for"
        for work in self.queue:
            work()
        self.queue.clear()

    def enqueue(self, work: Any, stream: int) -> None:
        assert stream in self.streams
        (self.queue if self.captured is None else self.captured).append(work)


@dataclass
class Context:
    """An execution context that rejects what TensorRT rejects."""

    engine: "Engine"
    shape: tuple[int, ...] = ()
    addresses: dict[str, int] = field(default_factory=dict)
    scratch: int = 0
    runs: int = 0

    def set_device_memory(self, address: int, size: int) -> None:
        self.engine.cuda.blocks.check(address, size)
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
        self.engine.cuda.blocks.check(address, int(np.prod(self.get_tensor_shape(name))) * 4)
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


class Settings:
    """`IRuntimeConfig` of TensorRT for RTX, which keeps compiled kernels as text."""

    dynamic_shapes_kernel_specialization_strategy = "lazy"

    def __init__(self) -> None:
        self.kernels = b""
        self.strategy = ""

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.strategy = strategy

    def create_runtime_cache(self) -> "Settings":
        return self

    def set_runtime_cache(self, cache: "Settings") -> bool:
        return cache is self

    def get_runtime_cache(self) -> "Settings":
        return self

    def deserialize(self, content: bytes) -> bool:
        self.kernels = content if content.startswith(b"kernels") else b""
        return bool(self.kernels)

    def serialize(self) -> bytes:
        return self.kernels or b"kernels"


class Engine:
    """`ICudaEngine` of a temporal encoder that sums over time."""

    num_io_tensors = 2
    device_memory_size_v2 = 1000

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.contexts: list[Context] = []
        self.refuses = ""  # "always" or "in a capture"
        self.full = False
        self.settings: Settings | None = None

    def create_runtime_config(self) -> "Settings":
        self.settings = Settings()
        return self.settings

    def get_tensor_name(self, index: int) -> str:
        return ("features", "embeddings")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name == "embeddings" else "output"

    def get_tensor_dtype(self, _name: str) -> str:
        return "FLOAT"

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert (name, profile) == ("embeddings", 0)
        return [(1, T, D), (4, T, D), (MOST, T, D)]

    def create_execution_context(self, settings: Any) -> Context | None:
        assert settings in ("user", self.settings)
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

    DynamicShapesKernelSpecializationStrategy = SimpleNamespace(EAGER="eager")
    EngineValidity = IntEnum("EngineValidity", ["VALID", "SUBOPTIMAL", "INVALID"], start=0)
    EngineInvalidityDiagnostics = IntEnum(
        "EngineInvalidityDiagnostics", {"VERSION_MISMATCH": 1, "UNSUPPORTED_CC": 2, "OLD_CUDA_DRIVER": 4}
    )

    def __init__(self, engine: Engine | None, validity: tuple[int, int] | None = None) -> None:
        self._engine = engine
        self._validity = validity
        self.given: list[bytes] = []

    class ILogger:
        INTERNAL_ERROR, ERROR, WARNING = range(3)

    def Runtime(self, logger: Any) -> Any:
        def deserialize_cuda_engine(content: bytes) -> Engine | None:
            self.given.append(content)
            if self._engine is None:
                logger.log(self.ILogger.WARNING, "Using an engine of another device")
                logger.log(self.ILogger.ERROR, "[E] Serialized engine version\n does not match")
            return self._engine

        if self._validity is None:
            return SimpleNamespace(deserialize_cuda_engine=deserialize_cuda_engine)
        return SimpleNamespace(
            deserialize_cuda_engine=deserialize_cuda_engine, get_engine_validity=lambda _: self._validity
        )

    def nptype(self, name: str) -> type:
        return {"FLOAT": np.float32}[name]
