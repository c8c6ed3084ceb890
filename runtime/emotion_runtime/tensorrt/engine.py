"""The TensorRT backend: runs an engine with TensorRT and cuda-python only.

UNVERIFIED: written from the documented API and tested with stand-ins for CUDA and TensorRT, because no GPU
was available. These commands verify it on a machine with a GPU:

    emotion-export trt --bundle DIR && emotion-runtime --bundle DIR --source demo --backend tensorrt
    bash benchmarks/gpu/run_all.sh
"""

import ctypes
import logging
import math
from contextlib import ExitStack
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.errors import EmotionError, EngineRejected
from emotion_runtime.tensorrt.gpu import Flavor, builder_name, call, find_gpu, load_cuda, load_tensorrt

_DEFAULT_HOST_MEMORY = 0  # cudaHostAllocDefault
_NON_BLOCKING = 1  # cudaStreamNonBlocking: work of other threads on the default stream ends no capture

_log = logging.getLogger(__name__)

Shapes = tuple[tuple[int, ...], ...]  # shapes of the inputs, in the engine's order


@dataclass(frozen=True, slots=True)
class _Buffer:
    """Memory of one input or output, large enough for the largest batch."""

    name: str
    dtype: np.dtype[Any]
    smallest: tuple[int, ...]  # shape of the smallest batch
    shape: tuple[int, ...]  # shape of the largest batch
    host: NDArray[Any]  # pinned memory as a flat array
    host_pointer: int
    device_pointer: int


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is needed to run one batch size."""

    context: Any
    output_shapes: Shapes
    graph: Any | None = None  # the captured CUDA graph; None until the size comes a second time
    capture: bool = True  # False: a capture failed and is not tried again


class TensorRTBackend:
    """A TensorRT engine. See `emotion_runtime.backends.base.Backend`.

    Buffers are allocated once, pinned and for the largest batch of the engine's profile; all work is on one
    stream. A batch size that comes a second time is captured as a CUDA graph (copies in, kernels, copies
    out), which one call launches; if that fails, the size runs without a graph. Each size has its own
    execution context, because a graph is tied to the shapes of its context; the contexts share one block of
    scratch memory. So sizes should be few: see `buckets`.

    Args:
        engine: The serialised engine. Loading it runs code in it, so it must be one that `engines` found
            valid.
        flavor: The TensorRT flavor that built it.
        library: Replaces the TensorRT module in tests.
        cuda: Replaces cuda-python in tests.

    Raises:
        EngineRejected: The engine cannot be loaded.
        EmotionError: TensorRT, cuda-python or a GPU is not available.
    """

    def __init__(
        self,
        engine: bytes,
        *,
        flavor: Flavor,
        library: ModuleType | None = None,
        cuda: ModuleType | None = None,
    ) -> None:
        self._trt = library or load_tensorrt(flavor)
        self._cuda = cuda or load_cuda()
        gpu = find_gpu(self._cuda)
        self.description = f"{builder_name(flavor, self._trt)} on {gpu.name}"
        self._runtime: Any = None
        self._engine = self._deserialise(engine)
        self._prepared: dict[Shapes, _Prepared] = {}
        with ExitStack() as stack:  # frees what was allocated if a later allocation fails
            self._held = stack
            self._allocate()
            self._held = stack.pop_all()

    def _allocate(self) -> None:
        """Create the stream, the scratch memory, and buffers for the largest batch."""
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [n for n in names if self._engine.get_tensor_mode(n) == self._trt.TensorIOMode.INPUT]
        self._stream = call(self._cuda.cudaStreamCreateWithFlags, _NON_BLOCKING)
        self._held.callback(call, self._cuda.cudaStreamDestroy, self._stream)
        self._scratch = call(self._cuda.cudaMalloc, max(1, self._engine.device_memory_size_v2))
        self._held.callback(call, self._cuda.cudaFree, self._scratch)
        profiles = {name: self._engine.get_tensor_profile_shape(name, 0) for name in inputs}
        self._inputs = [self._buffer(name, smallest, most) for name, (smallest, _, most) in profiles.items()]
        largest = self._context(tuple(buffer.shape for buffer in self._inputs))
        self._outputs = [
            self._buffer(name, shape := tuple(largest.get_tensor_shape(name)), shape)
            for name in names
            if name not in inputs
        ]

    def run(self, feeds: Feeds) -> Outputs:
        """Return the outputs by name.

        Raises:
            EmotionError: The batch is outside the engine's profile, or CUDA reports an error.
        """
        for buffer in self._inputs:
            _fill(buffer, feeds[buffer.name])
        shapes = tuple(feeds[buffer.name].shape for buffer in self._inputs)
        prepared = self._prepared.get(shapes)
        if prepared is None:
            # The first run of a context allocates memory and loads kernels, which cannot be captured.
            prepared = self._prepare(shapes)
            self._enqueue(prepared, shapes)
        else:
            if prepared.graph is None and prepared.capture:
                prepared = self._try_to_capture(prepared, shapes)
            if prepared.graph is None:
                self._enqueue(prepared, shapes)
            else:
                call(self._cuda.cudaGraphLaunch, prepared.graph, self._stream)
        call(self._cuda.cudaStreamSynchronize, self._stream)
        self._prepared[shapes] = prepared
        return {
            buffer.name: buffer.host[: math.prod(shape)].reshape(shape).copy()
            for buffer, shape in zip(self._outputs, prepared.output_shapes, strict=True)
        }

    def layer_information(self) -> str:
        """Return TensorRT's description of the engine's layers as JSON; detailed if it was built that way."""
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Free all memory; the backend cannot run again. A second call does nothing."""
        # Contexts are freed before the memory they work in. Contexts, engine and runtime own memory that is
        # freed with the last reference to them. Arrays over pinned memory must not outlive it.
        self._prepared.clear()
        self._inputs, self._outputs = [], []
        self._held.close()
        self._engine = None
        self._runtime = None

    def _deserialise(self, engine: bytes) -> Any:
        self._logger = self._trt.Logger(self._trt.Logger.ERROR)
        self._runtime = self._trt.Runtime(self._logger)  # both must outlive the engine
        loaded = self._runtime.deserialize_cuda_engine(engine)
        if loaded is None:  # TensorRT prints the reason to stderr and raises nothing
            raise EngineRejected(
                f"the engine cannot be loaded by {self.description}: it was built by another version or for "
                "another GPU, or the driver is too old (see TensorRT's message above): build it again with "
                "emotion-export trt --bundle DIR"
            )
        return loaded

    def _buffer(self, name: str, smallest: tuple[int, ...], shape: tuple[int, ...]) -> _Buffer:
        dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        size = math.prod(shape) * dtype.itemsize
        host = int(call(self._cuda.cudaHostAlloc, size, _DEFAULT_HOST_MEMORY))
        self._held.callback(call, self._cuda.cudaFreeHost, host)
        memory = (ctypes.c_byte * size).from_address(host)
        device = int(call(self._cuda.cudaMalloc, size))
        self._held.callback(call, self._cuda.cudaFree, device)
        return _Buffer(name, dtype, tuple(smallest), tuple(shape), np.frombuffer(memory, dtype), host, device)

    def _context(self, shapes: Shapes) -> Any:
        """Create an execution context for one batch size, on the shared scratch memory."""
        context = self._engine.create_execution_context(
            self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        if context is None:  # TensorRT prints the reason to stderr and raises nothing
            raise EmotionError(
                f"{self.description} has no memory for another batch size: check the GPU's memory with "
                "nvidia-smi"
            )
        context.set_device_memory(int(self._scratch), self._engine.device_memory_size_v2)
        for buffer, shape in zip(self._inputs, shapes, strict=True):
            if not context.set_input_shape(buffer.name, shape):
                raise EmotionError(
                    f"{self.description} does not take {buffer.name} of shape {shape}: build the engine "
                    "again with emotion-export trt --bundle DIR"
                )
        return context

    def _prepare(self, shapes: Shapes) -> _Prepared:
        context = self._context(shapes)
        for buffer in (*self._inputs, *self._outputs):
            context.set_tensor_address(buffer.name, buffer.device_pointer)
        return _Prepared(context, tuple(tuple(context.get_tensor_shape(b.name)) for b in self._outputs))

    def _try_to_capture(self, prepared: _Prepared, shapes: Shapes) -> _Prepared:
        """Capture the work of one batch size; if that fails, log it once: the size runs without a graph."""
        try:
            return self._capture(prepared, shapes)
        except EmotionError as error:
            _log.warning("%s: no CUDA graph for inputs %s (%s)", self.description, shapes, error)
            return replace(prepared, capture=False)

    def _capture(self, prepared: _Prepared, shapes: Shapes) -> _Prepared:
        """Capture the work of one batch size as a CUDA graph."""
        cuda = self._cuda
        # Capture only this thread: another one may allocate memory meanwhile.
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call(cuda.cudaStreamBeginCapture, self._stream, mode)
        try:
            self._enqueue(prepared, shapes)
        finally:  # a stream that stays in capture mode cannot be used again
            graph = call(cuda.cudaStreamEndCapture, self._stream)
        executable = call(cuda.cudaGraphInstantiate, graph, 0)
        call(cuda.cudaGraphDestroy, graph)
        self._held.callback(call, cuda.cudaGraphExecDestroy, executable)
        return replace(prepared, graph=executable)

    def _enqueue(self, prepared: _Prepared, shapes: Shapes) -> None:
        kind = self._cuda.cudaMemcpyKind
        for buffer, shape in zip(self._inputs, shapes, strict=True):
            self._copy(buffer.device_pointer, buffer.host_pointer, buffer, shape, kind.cudaMemcpyHostToDevice)
        if not prepared.context.execute_async_v3(int(self._stream)):
            raise EmotionError(
                f"{self.description} did not enqueue the engine (see its message above): check the GPU's "
                "memory with nvidia-smi, or use --backend cpu"
            )
        for buffer, shape in zip(self._outputs, prepared.output_shapes, strict=True):
            self._copy(buffer.host_pointer, buffer.device_pointer, buffer, shape, kind.cudaMemcpyDeviceToHost)

    def _copy(self, to: int, source: int, buffer: _Buffer, shape: tuple[int, ...], kind: Any) -> None:
        size = math.prod(shape) * buffer.dtype.itemsize
        call(self._cuda.cudaMemcpyAsync, to, source, size, kind, self._stream)


def _fill(buffer: _Buffer, value: NDArray[Any]) -> None:
    """Copy an input into its pinned memory.

    Raises:
        EmotionError: The input is outside the engine's profile.
    """
    fits = value.ndim == len(buffer.shape) and all(
        low <= length <= high
        for low, length, high in zip(buffer.smallest, value.shape, buffer.shape, strict=True)
    )
    if not fits or value.dtype != buffer.dtype:
        raise EmotionError(
            f"input {buffer.name} is {value.dtype} {value.shape}, but the engine was built for "
            f"{buffer.dtype} {buffer.smallest} to {buffer.shape}: build a larger one with emotion-export trt "
            "--max-persons and --max-frames"
        )
    buffer.host[: value.size] = value.ravel()
