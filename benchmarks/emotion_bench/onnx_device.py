"""ONNX Runtime on a device, without PyTorch: sessions, calls without copies, and the limits of the machine.

A device is "cuda" or "cpu"; the latter only tries out the code.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper
from onnxruntime import OrtValue, RunOptions

from emotion_bench.rounds import median_seconds
from emotion_runtime.backends.base import Feeds, count_persons
from emotion_runtime.backends.cuda import BoundBackend
from emotion_runtime.backends.onnx import CPU, CUDA, open_graph, open_session, providers_for
from emotion_runtime.errors import EmotionError

_TYPES = {"fp32": (np.float32, TensorProto.FLOAT), "fp16": (np.float16, TensorProto.FLOAT16)}


def open_on(graph: Path, device: str, *, capture: bool) -> Any:
    """Open a session of a graph on a device.

    Args:
        graph: The ONNX file.
        device: "cuda" or "cpu".
        capture: Whether the session may capture CUDA graphs.

    Raises:
        EmotionError: The device does not start, or the graph cannot be captured or loaded.
    """
    if device == "cpu":
        if capture:
            raise EmotionError("a CPU has no CUDA graphs")
        return open_graph(graph)
    session = open_graph(graph, CUDA, options={"enable_cuda_graph": "1"} if capture else None)
    if session.get_providers()[0] != CUDA:
        raise EmotionError("CUDA did not start: its libraries are missing or of another version")
    return session


def bound(session: Any, device: str, *, capture: bool) -> BoundBackend:
    """Return the runtime's own backend on a session of `open_on`."""
    return BoundBackend(session, device=device, capture=capture)


class DeviceCall:
    """One call of a graph whose inputs are already on the device, and whose outputs stay there.

    Args:
        session: A session of `open_on`.
        feeds: The inputs.
        device: "cuda" or "cpu".
        graph_id: Number of the captured CUDA graph, one for each set of shapes; None: nothing is captured.
    """

    def __init__(self, session: Any, feeds: Feeds, *, device: str, graph_id: int | None = None) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._values = {
            name: OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value), device, 0)
            for name, value in feeds.items()
        }
        for name, value in self._values.items():
            self._binding.bind_ortvalue_input(name, value)
        persons = count_persons(feeds)
        for output in session.get_outputs():
            shape = [persons, *output.shape[1:]]
            value = OrtValue.ortvalue_from_shape_and_type(shape, np.float32, device, 0)
            self._values[output.name] = value
            self._binding.bind_ortvalue_output(output.name, value)
        self._options = RunOptions()
        if graph_id is not None:
            self._options.add_run_config_entry("gpu_graph_id", str(graph_id))

    def __call__(self) -> None:
        """Run once and wait for the result, which stays on the device."""
        self._session.run_with_iobinding(self._binding, self._options)


def matmul_flops(device: str, precision: str, side: int) -> float:
    """Return the multiplications and additions per second of a product of two square matrices."""
    return 2 * side**3 / median_seconds(_operator("MatMul", 2, (side, side), precision, device))


def device_copy_bytes(device: str, count: int) -> float:
    """Return the bytes per second, read and written, of the negation of `count` floats on the device."""
    return 8 * count / median_seconds(_operator("Neg", 1, (count,), "fp32", device))


def host_copy_bytes(device: str, count: int) -> dict[str, float]:
    """Return the bytes per second of copies of `count` floats to the device and back (pageable memory)."""
    source = np.random.default_rng(0).random(count, np.float32)
    value = OrtValue.ortvalue_from_numpy(source, device, 0)
    return {
        "to device": 4 * count / median_seconds(lambda: value.update_inplace(source)),
        "from device": 4 * count / median_seconds(value.numpy),
    }


def _operator(
    operator: str, inputs: int, shape: tuple[int, ...], precision: str, device: str
) -> Callable[[], object]:
    """Return a call of one operator on random inputs that are on the device."""
    kind, onnx_kind = _TYPES[precision]
    names = [f"input{index}" for index in range(inputs)]
    values = [helper.make_tensor_value_info(name, onnx_kind, shape) for name in names]
    output = helper.make_tensor_value_info("output", onnx_kind, shape)
    graph = helper.make_graph([helper.make_node(operator, names, ["output"])], operator, values, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    providers = providers_for(CUDA if device == "cuda" else CPU)
    session = open_session(model.SerializeToString(), name=operator, fix="", providers=providers)
    binding, rng = session.io_binding(), np.random.default_rng(0)
    held = []  # the binding keeps addresses alone
    for name in names:
        array = rng.standard_normal(shape, np.float32).astype(kind)
        held.append(OrtValue.ortvalue_from_numpy(array, device, 0))
        binding.bind_ortvalue_input(name, held[-1])
    held.append(OrtValue.ortvalue_from_shape_and_type(shape, kind, device, 0))
    binding.bind_ortvalue_output("output", held[-1])
    return lambda: (session.run_with_iobinding(binding), held)[0]
