"""Stand-ins for a GPU in the tests of emotion-export trt: instant builds, engines that are ONNX files."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from exported import error_line
from onnx import TensorProto, helper, numpy_helper

from emotion_runtime.backends.base import Feeds, Outputs
from emotion_runtime.backends.onnx import open_session

Main = Callable[..., int]
EngineAndTypes = tuple[bytes, dict[str, int]]  # what `build_engine` returns
AHEAD = ("--flavor", "rtx", "--target", "SM86")


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the error of emotion-export trt."""
    return error_line(capsys, "emotion-export trt")


def files_in(folder: Path) -> list[Path]:
    """Return all files but the lock."""
    return sorted(path for path in folder.iterdir() if path.name != ".lock")


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """Return layer types as of a strongly typed network, taken from the types of the weights."""
    names = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.INT8: "int8"}
    counts = Counter(names.get(tensor.data_type, "int64") for tensor in model.graph.initializer)
    return dict(sorted(counts.items()))


def graph_of(
    nodes: list[onnx.NodeProto], *, input_shape: list[int | str], weights: dict[str, np.ndarray] | None = None
) -> onnx.ModelProto:
    """From `x` to `y`, both float32."""
    body = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


class Engine:
    """Runs the ONNX file that stands in for an engine."""

    name = "tensorrt-rtx"

    def __init__(self, engine: bytes, *, flavor: str) -> None:
        assert flavor == "tensorrt-rtx"
        types = {tensor.data_type for tensor in onnx.ModelProto.FromString(engine).graph.initializer}
        self._type = "Half" if onnx.TensorProto.FLOAT16 in types else "Float"
        self._session = open_session(engine, name="engine", fix="none")

    def run(self, feeds: Feeds) -> Outputs:
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))

    def layer_information(self) -> str:
        return json.dumps({"Layers": [{"Outputs": [{"Format/Datatype": self._type}]}]})

    def close(self) -> None:
        """Nothing to give back."""
