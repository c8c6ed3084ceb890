"""The native backend on stand-ins for CUDA and TensorRT, which hold every call against the rules of both.

Memory is real: "device" addresses point to arrays, copies copy, and the engine computes when its graph runs.
"""

import ctypes
from dataclasses import dataclass, field
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from emotion_runtime.backends.tensorrt import TensorRTBackend
from emotion_runtime.errors import EmotionError

MOST = 8  # persons the engine was built for
T, D = 4, 3


Status = IntEnum("Status", {"cudaSuccess": 0, "cudaErrorMemoryAllocation": 2})  # of `cudaError_t`


class Memory:
    """Blocks by address; what is touched must have been allocated, and freed once."""

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
    """`cuda.bindings.runtime`. calls: names in order; work of the stream runs at synchronisation."""

    def __init__(self, *, devices: int = 1, fail: str = "") -> None:
        self.cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice="in", cudaMemcpyDeviceToHost="out")
        self.cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeThreadLocal="thread")
        self.device, self.host = Memory(), Memory()
        self.calls: list[str] = []
        self.queue: list[Any] = []
        self.captured: list[Any] | None = None
        self.streams: set[int] = set()
        self.graphs: set[int] = set()
        self._devices, self._fail = devices, fail

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if not callable(value) or not name.startswith("cuda"):
            return value

        def function(*args: Any) -> Any:
            self.calls.append(name)
            if name == self._fail:
                return Status.cudaErrorMemoryAllocation, None
            return value(*args)

        function.__name__ = name
        return function

    def cudaGetDeviceCount(self):  # noqa: N802 - CUDA's names, here and below
        return Status.cudaSuccess, self._devices

    def cudaGetDeviceProperties(self, device: int):  # noqa: N802
        assert device == 0
        return Status.cudaSuccess, SimpleNamespace(name=b"Test GPU", major=8, minor=7)

    def cudaStreamCreate(self):  # noqa: N802
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
    """An execution context; refuses what TensorRT refuses."""

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
        if self.engine.refuses:
            return False
        if self.runs == 0:
            assert self.engine.cuda.captured is None, "the first run allocates, which breaks a capture"
        self.runs += 1
        self.engine.cuda.enqueue(self._compute, stream)
        return True

    def _compute(self) -> None:
        """Sum over time, on the memory that the addresses point to."""
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
        self.refuses = False

    def get_tensor_name(self, index: int) -> str:
        return ("features", "embeddings")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name == "embeddings" else "output"

    def get_tensor_dtype(self, _name: str) -> str:
        return "FLOAT"

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert (name, profile) == ("embeddings", 0)
        return [(1, T, D), (4, T, D), (MOST, T, D)]

    def create_execution_context(self, strategy: str) -> Context:
        assert strategy == "user"
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


@pytest.fixture
def cuda() -> Cuda:
    return Cuda()


@pytest.fixture
def engine(cuda: Cuda) -> Engine:
    return Engine(cuda)


@pytest.fixture
def backend(cuda: Cuda, engine: Engine) -> TensorRTBackend:
    return TensorRTBackend(b"engine", flavor="tensorrt", library=Library(engine), cuda=cuda)


def clips(persons: int, seed: int = 0) -> dict[str, Any]:
    return {"embeddings": np.random.default_rng(seed).random((persons, T, D), np.float32)}


def test_says_what_it_runs_on(backend: TensorRTBackend):
    assert backend.description.startswith("tensorrt 10.3.0 ")
    assert backend.description.endswith(" on Test GPU")
    assert backend.layer_information() == '{"form": "json"}'


def test_every_run_gives_what_the_engine_computes(backend: TensorRTBackend):
    """The first, the captured and the replayed one of each size, in turn, with other values each time."""
    kept = []
    for turn in range(4):
        for persons in (1, 8, 2, 4):
            feed = clips(persons, seed=10 * turn + persons)
            features = backend.run(feed)["features"]
            np.testing.assert_allclose(features, feed["embeddings"].sum(axis=1), rtol=1e-6)
            kept.append((features, features.copy()))
    for features, copy in kept:  # no later run wrote to what was given away
        np.testing.assert_array_equal(features, copy)


def test_a_size_that_comes_again_is_one_launch(backend: TensorRTBackend, cuda: Cuda):
    backend.run(clips(2))
    cuda.calls.clear()
    backend.run(clips(2))
    assert cuda.calls == [
        "cudaStreamBeginCapture",
        "cudaMemcpyAsync",
        "cudaMemcpyAsync",
        "cudaStreamEndCapture",
        "cudaGraphInstantiate",
        "cudaGraphDestroy",
        "cudaGraphLaunch",
        "cudaStreamSynchronize",
    ]
    cuda.calls.clear()
    backend.run(clips(2))
    assert cuda.calls == ["cudaGraphLaunch", "cudaStreamSynchronize"]


def test_each_size_has_its_context_and_all_share_the_memory(
    backend: TensorRTBackend, cuda: Cuda, engine: Engine
):
    allocated = len(cuda.device.blocks), len(cuda.host.blocks)
    for persons in (1, 2, 4, 8, 4, 2, 1):
        backend.run(clips(persons))
    assert (len(cuda.device.blocks), len(cuda.host.blocks)) == allocated == (3, 2)
    ran = [context for context in engine.contexts if context.runs]
    assert sorted(context.shape[0] for context in ran) == [1, 2, 4, 8]
    assert len({context.scratch for context in engine.contexts}) == 1


def test_close_gives_everything_back(backend: TensorRTBackend, cuda: Cuda):
    for persons in (1, 1, 2):
        backend.run(clips(persons))
    backend.close()
    assert not cuda.device.blocks
    assert not cuda.host.blocks
    assert not cuda.streams
    assert not cuda.graphs


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((9, T, D), np.float32), r"float32 \(9, 4, 3\), the engine was built for float32"),
        (np.zeros((0, T, D), np.float32), r"\(0, 4, 3\)"),
        (np.zeros((2, T, D + 1), np.float32), r"\(2, 4, 4\)"),
        (np.zeros((2, T), np.float32), r"\(2, 4\)"),
        (np.zeros((2, T, D), np.float64), r"float64 \(2, 4, 3\)"),
    ],
)
def test_what_the_engine_was_not_built_for_is_one_line(
    backend: TensorRTBackend, value: np.ndarray, words: str
):
    with pytest.raises(EmotionError, match=rf"input embeddings is .*{words}") as error:
        backend.run({"embeddings": value})
    assert "\n" not in str(error.value)
    assert "--max-persons" in str(error.value)
    feed = clips(2)
    np.testing.assert_allclose(backend.run(feed)["features"], feed["embeddings"].sum(axis=1), rtol=1e-6)


def test_an_engine_that_cannot_be_loaded_says_how_to_mend_it(cuda: Cuda):
    library = Library(None)  # TensorRT gives None and raises nothing
    with pytest.raises(EmotionError, match=r"cannot be loaded by tensorrt 10\.3\.0 .* on Test GPU") as error:
        TensorRTBackend(b"torn", flavor="tensorrt", library=library, cuda=cuda)
    assert library.given == [b"torn"]
    assert "export/to_trt.py" in str(error.value)
    assert "\n" not in str(error.value)


def test_no_gpu_is_one_line(engine: Engine):
    with pytest.raises(EmotionError, match=r"no GPU is to be had \(CUDA shows none\)"):
        TensorRTBackend(b"", flavor="tensorrt", library=Library(engine), cuda=Cuda(devices=0))


@pytest.mark.parametrize("function", ["cudaMalloc", "cudaHostAlloc", "cudaStreamCreate"])
def test_memory_that_is_not_there_is_one_line(engine: Engine, function: str):
    cuda = Cuda(fail=function)
    engine.cuda = cuda
    with pytest.raises(EmotionError, match=f"CUDA: {function} failed with cudaErrorMemoryAllocation"):
        TensorRTBackend(b"", flavor="tensorrt", library=Library(engine), cuda=cuda)


def test_a_capture_that_fails_does_not_leave_the_stream_in_it(
    backend: TensorRTBackend, cuda: Cuda, engine: Engine
):
    backend.run(clips(2))
    engine.refuses = True
    with pytest.raises(RuntimeError, match="refused to enqueue"):
        backend.run(clips(2))
    assert cuda.captured is None
    engine.refuses = False
    feed = clips(2)
    np.testing.assert_allclose(backend.run(feed)["features"], feed["embeddings"].sum(axis=1), rtol=1e-6)
