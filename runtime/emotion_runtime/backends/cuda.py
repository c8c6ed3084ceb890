"""ONNX Runtime with CUDA: buffers that stay on the device, and captured graphs for batch sizes that recur.

Verified on an H200 with ONNX Runtime 1.31 and CUDA 13, by `pytest -m gpu tests/runtime` and
`benchmarks/gpu/run_all.sh`. CI tests the data path on the CPU device, where I/O binding works the same way.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion_runtime.backends.base import Feeds, Outputs, Unavailable, count_persons
from emotion_runtime.backends.onnx import (
    CUDA,
    available_providers,
    device_errors,
    onnx_reason,
    onnx_version,
    open_graph,
)
from emotion_runtime.errors import EmotionError
from emotion_runtime.jetson import on_jetson

GPU_INSTALL = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
_CAPTURE = {"enable_cuda_graph": "1"}
_DEVICE = "cuda"
_NO_CAPTURE = -1  # ONNX Runtime's id for a run without capture or replay; id 0 is ONNX Runtime's own
_CAPTURE_AFTER = 2  # capture only repeated sizes, since a capture costs memory
MOST_PERSONS = 64  # of one run: on an H200 nano takes 2.2 ms for 64 people, and 5.0 ms in runs of 16

_log = logging.getLogger(__name__)


def open_cuda(graph: Path | bytes) -> "BoundBackend":
    """Open a graph, in a file or in memory, on the GPU.

    Raises:
        Unavailable: This ONNX Runtime has no CUDA support, CUDA does not start, or it cannot load the graph,
            for example because the GPU's memory is full.
        EmotionError: ONNX Runtime is not installed.
    """
    if CUDA not in available_providers() and on_jetson():
        # Its wheels on PyPI have no code for the GPUs of these devices, if there are any for its Python.
        raise Unavailable(
            "cuda", "PyPI has no ONNX Runtime with CUDA for a Jetson", fix="use --backend tensorrt"
        )
    if CUDA not in available_providers():
        raise Unavailable("cuda", "the installed ONNX Runtime was built without CUDA", fix=GPU_INSTALL)
    capture = True
    try:
        session = open_graph(graph, CUDA, options=_CAPTURE)
    except EmotionError as error:
        session, capture = _open_plainly(graph), False
        # A graph with a node that has to run on the CPU cannot be captured, but it runs.
        _log.warning("backend cuda: without captured graphs (%s)", error)
    # ONNX Runtime falls back to the CPU without an exception.
    if session.get_providers()[0] != CUDA:
        reason = "CUDA did not start (driver, CUDA or cuDNN libraries are missing or of another version)"
        raise Unavailable("cuda", reason, fix="see emotion-runtime --doctor", broken=True)
    return BoundBackend(session, device=_DEVICE, capture=capture)


def _open_plainly(graph: Path | bytes) -> Any:
    try:
        return open_graph(graph, CUDA)
    except EmotionError as error:
        raise Unavailable("cuda", str(error), fix="see emotion-runtime --doctor", broken=True) from error


@dataclass(slots=True)
class _Buffers:
    """Arrays on the device for one set of input shapes."""

    binding: Any
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    graph_id: int  # of the captured graph, or _NO_CAPTURE
    runs: int = 0


class BoundBackend:
    """A session whose inputs and outputs keep their addresses on a device. See `backends.base.Backend`.

    It keeps buffers for every batch size it meets, so the sizes should be few: see `Bucketed`.

    Args:
        session: A session of `open_graph`.
        device: "cuda" or "cpu".
        capture: The session was opened with captured graphs, which need the same addresses in every run.
    """

    name = "cuda"

    def __init__(self, session: Any, *, device: str, capture: bool) -> None:
        self._session = session
        self._device = device
        self._capture = capture
        self._outputs = {output.name: output.shape[1:] for output in session.get_outputs()}
        self._buffers: dict[tuple[Any, ...], _Buffers] = {}
        graphs = ", captured graphs" if capture else ""
        self.description = f"ONNX Runtime {onnx_version()}, {session.get_providers()[0]}{graphs}"

    def run(self, feeds: Feeds) -> Outputs:
        """Return the outputs by name.

        Raises:
            EmotionError: The device fails, for example because its memory is full.
        """
        try:
            return self._run(feeds)
        except device_errors() as error:
            raise EmotionError(
                f"{self.description} does not run ({onnx_reason(error)}): check driver and memory with "
                "nvidia-smi, or use --backend cpu"
            ) from error

    def close(self) -> None:
        """Do nothing: session and buffers are freed together with this object, and can still run."""

    def _run(self, feeds: Feeds) -> Outputs:
        shapes = tuple((name, value.shape) for name, value in sorted(feeds.items()))
        buffers = self._buffers.get(shapes)
        if buffers is None:
            buffers = self._buffers[shapes] = self._allocate(feeds)
        buffers.runs += 1
        for name, value in feeds.items():
            buffers.inputs[name].update_inplace(np.ascontiguousarray(value))
        graph_id = buffers.graph_id if buffers.runs >= _CAPTURE_AFTER else _NO_CAPTURE
        try:
            self._session.run_with_iobinding(buffers.binding, self._options(graph_id))
        except device_errors() as error:
            if graph_id == _NO_CAPTURE or not self._capture:
                raise
            sizes = ", ".join(f"{name} {shape}" for name, shape in shapes)
            _log.warning("%s: no CUDA graph for %s (%s)", self.description, sizes, onnx_reason(error))
            buffers.graph_id = _NO_CAPTURE
            self._session.run_with_iobinding(buffers.binding, self._options(_NO_CAPTURE))
        return {name: value.numpy().copy() for name, value in buffers.outputs.items()}

    def _options(self, graph_id: int) -> Any:
        """Return RunOptions, or None without captured graphs."""
        if not self._capture:
            return None
        import onnxruntime  # noqa: PLC0415 - see open_graph

        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(graph_id))
        return options

    def _output_shapes(self, feeds: Feeds) -> dict[str, list[int]]:
        """Return the shapes of the outputs; a graph that computes them, such as a detector's, runs once."""
        if all(shape and all(isinstance(side, int) for side in shape) for shape in self._outputs.values()):
            return {name: [count_persons(feeds), *shape] for name, shape in self._outputs.items()}
        values = self._session.run([*self._outputs], dict(feeds), self._options(_NO_CAPTURE))
        return {name: [*value.shape] for name, value in zip(self._outputs, values, strict=True)}

    def _allocate(self, feeds: Feeds) -> _Buffers:
        from onnxruntime import OrtValue  # noqa: PLC0415 - see open_graph

        allocate = OrtValue.ortvalue_from_shape_and_type
        inputs = {
            name: allocate(value.shape, value.dtype.type, self._device, 0) for name, value in feeds.items()
        }
        # Outputs are float32, whatever precision the graph computes in.
        outputs = {
            name: allocate(shape, np.float32, self._device, 0)
            for name, shape in self._output_shapes(feeds).items()
        }
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        return _Buffers(binding, inputs, outputs, len(self._buffers) + 1)
