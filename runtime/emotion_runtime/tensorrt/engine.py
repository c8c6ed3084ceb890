"""The TensorRT backend: runs an engine with TensorRT and the driver only.

UNVERIFIED with TensorRT on a GPU: written from the documented API and tested with a stand-in for TensorRT,
whose copies ran on a real GPU (`pytest -m gpu tests/runtime`). On a machine with both, these verify it:

    emotion-export trt --bundle DIR && emotion-runtime --bundle DIR --source demo --backend tensorrt
    bash benchmarks/gpu/run_all.sh
"""

import ctypes
import logging
import math
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.errors import EmotionError, EngineRejected
from emotion_runtime.tensorrt import rtx
from emotion_runtime.tensorrt.api import TensorRT, make_logger
from emotion_runtime.tensorrt.driver import NON_BLOCKING, THREAD_LOCAL, Driver
from emotion_runtime.tensorrt.gpu import BUILD_AGAIN, Flavor, builder_name, find_gpu, load_tensorrt, start

if TYPE_CHECKING:
    import tensorrt

_log = logging.getLogger(__name__)

_Shape = tuple[int, ...]


class TensorRTBackend:
    """A TensorRT engine. See `emotion_runtime.backends.base.Backend`.

    Buffers are allocated once, pinned and for the largest batch of the engine's profile; all work is on one
    stream. A batch size that comes a second time is captured as a CUDA graph (copies in, kernels, copies
    out), which one call launches; if that fails, the size runs without a graph. Each size has its own
    execution context, because a graph is tied to the shapes of its context; the contexts share one block of
    scratch memory. So sizes should be few: see `buckets`.

    TensorRT for RTX compiles kernels for each new size on the device. They are compiled before the first run
    of the size, so that no graph captures the slower general ones, and kept in a file for the next start.

    Args:
        engine: The serialised engine. Loading it runs code in it, so it must be one that `cache` found valid.
        flavor: The TensorRT flavor that built it.
        kernels: File for what TensorRT for RTX compiles; None: it compiles again at every start.
        library: Replaces the TensorRT module in tests.
        driver: Replaces the driver in tests.

    Raises:
        EngineRejected: The engine cannot be loaded.
        EmotionError: TensorRT or a GPU is not available, or its memory is full.
    """

    def __init__(
        self,
        engine: bytes,
        *,
        flavor: Flavor,
        kernels: Path | None = None,
        library: TensorRT | None = None,
        driver: Driver | None = None,
    ) -> None:
        self._trt = library or load_tensorrt(flavor)
        self._cuda = driver or Driver()
        gpu = find_gpu(self._cuda)
        self._cuda.use()
        self.name = flavor
        self.description = f"{builder_name(flavor, self._trt)} on {gpu.name}"
        self._logger = make_logger(self._trt)
        # Runtime and logger must outlive the engine.
        self._runtime = start(self._trt.Runtime, self._logger, self.description, gpu.driver)
        self._engine = self._deserialise(engine)
        self._kernels = kernels
        rtx_only = flavor == "tensorrt-rtx"
        self._settings = rtx.runtime_settings(self._trt, self._engine, kernels) if rtx_only else None
        self._buffers: dict[str, tuple[NDArray[Any], int]] = {}  # flat pinned memory; address on the GPU
        # By the shapes of the inputs:
        self._contexts: dict[tuple[_Shape, ...], tensorrt.IExecutionContext] = {}
        self._graphs: dict[tuple[_Shape, ...], int] = {}  # captured CUDA graphs; 0 if a capture failed
        with ExitStack() as stack:  # frees what was allocated if a later allocation fails
            self._held = stack
            self._allocate()
            self._held = stack.pop_all()

    def _allocate(self) -> None:
        """Create the stream, the scratch memory, and buffers for the largest batch."""
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        inputs = [n for n in names if self._engine.get_tensor_mode(n) == self._trt.TensorIOMode.INPUT]
        self._stream = self._hold("cuStreamCreate", NON_BLOCKING, free="cuStreamDestroy_v2")
        size = max(1, self._engine.device_memory_size_v2)
        self._scratch = self._hold("cuMemAlloc_v2", size, free="cuMemFree_v2")
        self._inputs: dict[str, tuple[_Shape, _Shape]] = {}  # shapes of the smallest and the largest batch
        for name in inputs:
            smallest, _, largest = map(_shape, self._engine.get_tensor_profile_shape(name, 0))
            self._inputs[name] = smallest, largest
            self._buffers[name] = self._buffer(name, largest)
        context = self._context(tuple(largest for _, largest in self._inputs.values()))
        self._outputs = [name for name in names if name not in inputs]
        for name in self._outputs:
            self._buffers[name] = self._buffer(name, _shape(context.get_tensor_shape(name)))

    def _hold(self, function: str, *args: Any, free: str) -> int:
        """Return what a function of the driver creates, which `close` frees."""
        handle = self._cuda.get(function, *args)
        self._held.callback(self._cuda.call, free, handle)
        return handle

    def run(self, feeds: Feeds) -> Outputs:
        """Return the outputs by name.

        Raises:
            EmotionError: The batch is outside the engine's profile, or CUDA reports an error.
        """
        self._cuda.use()
        for name in self._inputs:
            self._fill(name, feeds[name])
        shapes = tuple(feeds[name].shape for name in self._inputs)
        context = self._contexts.get(shapes) or self._context(shapes)
        # The first run of a context allocates memory and loads kernels, which cannot be captured.
        if shapes in self._contexts and shapes not in self._graphs:
            try:
                self._graphs[shapes] = self._capture(context)
            except EmotionError as error:
                _log.warning("%s: no CUDA graph for inputs %s (%s)", self.description, shapes, error)
                self._graphs[shapes] = 0
        if graph := self._graphs.get(shapes):
            self._cuda.call("cuGraphLaunch", graph, self._stream)
        else:
            self._enqueue(context)
        self._cuda.call("cuStreamSynchronize", self._stream)
        self._contexts[shapes] = context
        return {name: self._host(context, name).copy() for name in self._outputs}

    def layer_information(self) -> str:
        """Return TensorRT's description of the engine's layers as JSON; detailed if it was built that way."""
        inspector = self._engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Free all memory; the backend cannot run again. A second call does nothing."""
        if not hasattr(self, "_engine"):
            return
        self._cuda.use()
        if self._settings is not None and self._kernels is not None and self._contexts:
            rtx.keep_kernels(self._settings, self._kernels)
        # Contexts are freed before the memory they work in. Contexts, engine and runtime own memory that is
        # freed with the last reference to them. Arrays over pinned memory must not outlive it.
        self._contexts.clear()
        self._buffers.clear()
        self._held.close()
        del self._settings, self._engine, self._runtime

    def _deserialise(self, engine: bytes) -> "tensorrt.ICudaEngine":
        if hasattr(self._runtime, "get_engine_validity"):  # only TensorRT for RTX has it
            rtx.check_validity(self._trt, self._runtime, engine, self.description)
        loaded = self._runtime.deserialize_cuda_engine(engine)
        if loaded is None:
            raise EngineRejected(
                f"the engine cannot be loaded by {self.description}: it was built by another version or for "
                f"another GPU, or the driver is too old ({self._logger.reason()}): {BUILD_AGAIN}"
            )
        return loaded

    def _buffer(self, name: str, largest: _Shape) -> tuple[NDArray[Any], int]:
        dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        size = math.prod(largest) * dtype.itemsize
        pinned = self._hold("cuMemHostAlloc", size, 0, free="cuMemFreeHost")
        host = np.frombuffer(memoryview((ctypes.c_byte * size).from_address(pinned)), dtype)
        return host, self._hold("cuMemAlloc_v2", size, free="cuMemFree_v2")

    def _context(self, shapes: tuple[_Shape, ...]) -> "tensorrt.IExecutionContext":
        """Create an execution context for one batch size, on the shared scratch memory."""
        context = self._engine.create_execution_context(
            self._settings or self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        if context is None:
            raise EmotionError(
                f"{self.description} has no memory for another batch size ({self._logger.reason()}): check "
                "the GPU's memory with nvidia-smi"
            )
        context.set_device_memory(self._scratch, self._engine.device_memory_size_v2)
        for name, shape in zip(self._inputs, shapes, strict=True):
            context.set_input_shape(name, shape)  # within the profile: `_fill` has checked it
        for name, (_, address) in self._buffers.items():
            context.set_tensor_address(name, address)
        return context

    def _capture(self, context: "tensorrt.IExecutionContext") -> int:
        """Return the work of one batch size as a CUDA graph."""
        capturable = getattr(context, "is_stream_capturable", None)  # only TensorRT for RTX has it
        if capturable is not None and not capturable(self._stream):
            raise EmotionError("the engine allocates memory while it runs")
        recorded = ctypes.c_void_p()
        self._cuda.call("cuStreamBeginCapture_v2", self._stream, THREAD_LOCAL)
        try:
            self._enqueue(context)
        finally:  # a stream that stays in capture mode cannot be used again
            self._cuda.call("cuStreamEndCapture", self._stream, ctypes.byref(recorded))
        try:
            return self._hold("cuGraphInstantiateWithFlags", recorded.value, 0, free="cuGraphExecDestroy")
        finally:
            self._cuda.call("cuGraphDestroy", recorded.value)

    def _enqueue(self, context: "tensorrt.IExecutionContext") -> None:
        for name in self._inputs:
            host, device = self._host(context, name), self._buffers[name][1]
            self._cuda.call("cuMemcpyHtoDAsync_v2", device, host.ctypes.data, host.nbytes, self._stream)
        if not context.execute_async_v3(self._stream):
            raise EmotionError(
                f"{self.description} did not enqueue the engine ({self._logger.reason()}): check the GPU's "
                "memory with nvidia-smi, or use --backend cpu"
            )
        for name in self._outputs:
            host, device = self._host(context, name), self._buffers[name][1]
            self._cuda.call("cuMemcpyDtoHAsync_v2", host.ctypes.data, device, host.nbytes, self._stream)

    def _host(self, context: "tensorrt.IExecutionContext", name: str) -> NDArray[Any]:
        """Return an input or output of the batch of a context, in pinned memory."""
        shape = _shape(context.get_tensor_shape(name))
        return self._buffers[name][0][: math.prod(shape)].reshape(shape)

    def _fill(self, name: str, value: NDArray[Any]) -> None:
        """Copy an input into its pinned memory; refuse one that is outside the engine's profile."""
        (smallest, largest), host = self._inputs[name], self._buffers[name][0]
        fits = value.ndim == len(largest) and all(
            low <= length <= high for low, length, high in zip(smallest, value.shape, largest, strict=True)
        )
        if not fits or value.dtype != host.dtype:
            raise EmotionError(
                f"input {name} is {value.dtype} {value.shape}, but the engine was built for {host.dtype} "
                f"{smallest} to {largest}: build a larger one with emotion-export trt --max-persons and "
                "--max-frames"
            )
        host[: value.size] = value.ravel()


def _shape(dims: "tensorrt.Dims") -> _Shape:
    return tuple(dims[i] for i in range(len(dims)))
