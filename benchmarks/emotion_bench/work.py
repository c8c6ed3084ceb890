"""Operations and bytes of ONNX graphs, and how fast this machine could do them: what bounds a time."""

import json
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from emotion_bench.rounds import interleave
from emotion_runtime.backends.onnx import default_threads, open_session

_COPIED = 1 << 26  # bytes of each part that a thread copies, far more than any cache holds


@dataclass(frozen=True, slots=True)
class Work:
    """What a graph has to do at least.

    Attributes:
        flops: Multiplications and additions of its matrix products and convolutions.
        bytes: Bytes of its weights, inputs and outputs, each read or written once.
    """

    flops: int
    bytes: int

    def __add__(self, other: "Work") -> "Work":
        """Return the work of both."""
        return Work(self.flops + other.flops, self.bytes + other.bytes)


@dataclass(frozen=True, slots=True)
class Limits:
    """What this machine reaches: the best of several measurements.

    Attributes:
        flops: Multiplications and additions per second, float32 products of matrices.
        bytes: Bytes per second, read and written by a copy.
    """

    flops: float
    bytes: float

    def ms(self, work: Work) -> float:
        """Return the larger of the two times that some work takes at least, in milliseconds."""
        return 1000 * max(work.flops / self.flops, work.bytes / self.bytes)

    def as_json(self) -> dict[str, float]:
        """Return both in units that people read."""
        return {"gflops": round(self.flops / 1e9, 1), "gbytes_per_s": round(self.bytes / 1e9, 1)}


class Sgemm:
    """A product of two square float32 matrices in ONNX Runtime, set up like the encoders.

    It shows what the machine can multiply in float32. Encoders are matrix products for 94 % and more of their
    operations, so none exceeds this rate for long.
    """

    def __init__(self, side: int = 1536) -> None:
        self.flops = 2 * side**3
        rng = np.random.default_rng(0)
        weight = numpy_helper.from_array(rng.standard_normal((side, side), np.float32), "w")
        x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [side, side]) for name in ("x", "y"))
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])], "sgemm", [x], [y], [weight]
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        self._session = open_session(model.SerializeToString(), name="sgemm", fix="reinstall onnxruntime")
        self._feeds = {"x": rng.standard_normal((side, side), np.float32)}

    def __call__(self) -> None:
        """Multiply once."""
        self._session.run(None, self._feeds)


class Copy:
    """A copy of memory by as many threads as the encoders have."""

    def __init__(self) -> None:
        threads = default_threads()
        self.bytes = 2 * threads * _COPIED
        self._parts = [np.ones((2, _COPIED), np.uint8) for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads)

    def __call__(self) -> None:
        """Copy once."""
        list(self._pool.map(lambda part: np.copyto(part[1], part[0]), self._parts))


def measure_limits(rounds: int, clock: Callable[[], float] | None = None) -> Limits:
    """Return the limits of this machine; with `time.process_time` as the clock, those of one core."""
    sgemm, copy = Sgemm(), Copy()
    seconds = interleave({"sgemm": sgemm, "copy": copy}, rounds=rounds, clock=clock)
    return Limits(sgemm.flops / min(seconds["sgemm"]), copy.bytes / min(seconds["copy"]))


def work_of(graph: Path | bytes, feeds: Mapping[str, NDArray[Any]]) -> Work:
    """Count the work of a graph for these inputs, from the shapes that ONNX Runtime saw in a run of it."""
    content = graph if isinstance(graph, bytes) else graph.read_bytes()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.enable_profiling = 4, True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        outputs = session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    nodes = [event["args"] for event in events if "output_type_shape" in event.get("args", {})]
    weights = [numpy_helper.to_array(each) for each in onnx.load_from_string(content).graph.initializer]
    moved = sum(array.nbytes for array in (*weights, *feeds.values(), *outputs))
    return Work(sum(map(_flops, nodes)), moved)


def input_names(graph: Path | bytes) -> frozenset[str]:
    """Return the names of a graph's inputs."""
    model = onnx.load_from_string(graph) if isinstance(graph, bytes) else onnx.load(graph)
    return frozenset(each.name for each in model.graph.input)


def _flops(node: Mapping[str, Any]) -> int:
    """Return the operations of a node of ONNX Runtime's profile."""
    inputs, (output, *_) = _shapes(node["input_type_shape"]), _shapes(node["output_type_shape"])
    if node["op_name"] == "Conv":
        return 2 * math.prod(output) * math.prod(inputs[1][1:])
    if node["op_name"] in ("MatMul", "Gemm"):  # no Gemm here has its first factor transposed
        return 2 * math.prod(output) * inputs[0][-1]
    return 0


def _shapes(described: Iterable[Mapping[str, Sequence[int]]]) -> list[Sequence[int]]:
    return [shape for each in described for shape in each.values()]
