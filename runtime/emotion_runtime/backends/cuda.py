"""ONNX Runtime through CUDA: buffers that stay on the device, captured graphs for the sizes that come often.

UNVERIFIED: no GPU was at hand. Verify with `emotion-runtime --source demo --backend cuda` and
`benchmarks/gpu/run_all.sh`. The way of the data is tested on the CPU's own device, where binding works alike.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emotion_runtime.backends.base import Feeds, Outputs, Unavailable
from emotion_runtime.backends.onnx import CUDA, available_providers, onnx_errors, onnx_version, open_graph
from emotion_runtime.errors import EmotionError

GPU_INSTALL = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
_CAPTURE = {"enable_cuda_graph": "1"}
_DEVICE = "cuda"
_NO_CAPTURE = -1  # ONNX Runtime's number for a run that is neither captured nor replayed; 0 is its own
_SEEN_OFTEN = 2  # a size that came once may never come again, and a capture costs memory

_log = logging.getLogger(__name__)


def open_cuda(graph: Path) -> "BoundBackend":
    """A graph on the GPU.

    Raises:
        Unavailable: this ONNX Runtime has no CUDA, or CUDA does not start.
        EmotionError: ONNX Runtime is not installed or cannot load the graph.

    """
    if CUDA not in available_providers():
        raise Unavailable("cuda", "the installed ONNX Runtime has no CUDA in it", fix=GPU_INSTALL)
    capture = True
    try:
        session = open_graph(graph, CUDA, options=_CAPTURE)
    except EmotionError as error:
        # A graph with a node that has to run on the CPU cannot be captured; it runs all the same.
        _log.warning("backend cuda: without captured graphs (%s)", error)
        session, capture = open_graph(graph, CUDA), False
    # ONNX Runtime falls back to the CPU without an exception, so what was got is compared.
    if session.get_providers()[0] != CUDA:
        reason = "CUDA did not start (driver, CUDA or cuDNN libraries missing or of another version)"
        raise Unavailable("cuda", reason, fix="see emotion-runtime --doctor", broken=True)
    return BoundBackend(session, device=_DEVICE, capture=capture)


@dataclass(frozen=True, slots=True)
class _Buffers:
    """Arrays on the device for one set of input shapes. number: of the captured graph."""

    binding: Any
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    number: int


class BoundBackend:
    """A session whose inputs and outputs keep their places on a device. See `backends.Backend`.

    session: of `open_graph`. device: "cuda" or "cpu". capture: the session was opened with captured graphs,
    which need the same addresses every time. Meant to be given few sizes of batch, see `Bucketed`: each
    keeps its buffers.
    """

    def __init__(self, session: Any, *, device: str, capture: bool) -> None:
        self._session = session
        self._device = device
        self._capture = capture
        self._outputs = {output.name: output.shape[1:] for output in session.get_outputs()}
        self._buffers: dict[tuple[Any, ...], _Buffers] = {}
        self._seen: Counter[tuple[Any, ...]] = Counter()
        graphs = ", captured graphs" if capture else ""
        self.description = f"ONNX Runtime {onnx_version()}, {session.get_providers()[0]}{graphs}"

    def run(self, feeds: Feeds) -> Outputs:
        """Outputs by name.

        Raises:
            EmotionError: the device fails, for example has no memory left.

        """
        try:
            return self._run(feeds)
        except onnx_errors() as error:
            reason = " ".join(str(error).split())
            raise EmotionError(
                f"{self.description} does not run ({reason}): see what nvidia-smi says of driver and memory, "
                "or use --backend cpu"
            ) from error

    def _run(self, feeds: Feeds) -> Outputs:
        shapes = tuple((name, value.shape) for name, value in sorted(feeds.items()))
        buffers = self._buffers.get(shapes)
        if buffers is None:
            buffers = self._buffers[shapes] = self._allocate(feeds)
        self._seen[shapes] += 1
        for name, value in feeds.items():
            buffers.inputs[name].update_inplace(np.ascontiguousarray(value))
        self._session.run_with_iobinding(buffers.binding, self._options(buffers.number, self._seen[shapes]))
        return {name: value.numpy().copy() for name, value in buffers.outputs.items()}

    def _options(self, number: int, seen: int) -> Any:
        """RunOptions; None without captured graphs."""
        if not self._capture:
            return None
        import onnxruntime  # noqa: PLC0415 - see open_graph

        options = onnxruntime.RunOptions()
        graph = number if seen >= _SEEN_OFTEN else _NO_CAPTURE
        options.add_run_config_entry("gpu_graph_id", str(graph))
        return options

    def _allocate(self, feeds: Feeds) -> _Buffers:
        from onnxruntime import OrtValue  # noqa: PLC0415 - see open_graph

        allocate = OrtValue.ortvalue_from_shape_and_type
        inputs = {
            name: allocate(value.shape, value.dtype.type, self._device, 0) for name, value in feeds.items()
        }
        persons = next(len(value) for name, value in feeds.items() if name != "images")
        # float32 at the boundary, whatever the graph computes in.
        outputs = {
            name: allocate([persons, *shape], np.float32, self._device, 0)
            for name, shape in self._outputs.items()
        }
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        return _Buffers(binding, inputs, outputs, len(self._buffers) + 1)
