"""int8 graphs compared with a loop in Python, and the requirements of TensorRT."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from exported import Exported
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from emotion_export.graph_index import GraphIndex
from emotion_export.quantize import calibrate, int8_nodes, quantise

RNG = np.random.default_rng(0)
FIRST = RNG.standard_normal((8, 6)).astype(np.float32) * np.logspace(-1, 1, 6, dtype=np.float32)
SECOND = RNG.standard_normal((6, 3)).astype(np.float32)


def plain() -> onnx.ModelProto:
    """y = relu(relu(x) FIRST) SECOND."""
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"], name="relu_1"),
        helper.make_node("MatMul", ["positive", "first"], ["wide"], name="first"),
        helper.make_node("Relu", ["wide"], ["hidden"], name="relu_2"),
        helper.make_node("MatMul", ["hidden", "second"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["P", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["P", 3])],
        [numpy_helper.from_array(FIRST, "first"), numpy_helper.from_array(SECOND, "second")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def session(model: onnx.ModelProto, *, optimised: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def by_hand(x: NDArray, largest: list[float]) -> NDArray:
    """Each weight on 127 steps of its own column, each activation on 255 of the calibrated range."""
    for weight, top in zip((FIRST, SECOND), largest, strict=True):
        scale = top / 127.0
        activation = np.clip(np.rint(np.maximum(x, 0) / scale), -128, 127) * scale
        columns = np.abs(weight).max(axis=0) / 64  # 7 bits
        x = activation @ (np.rint(weight / columns) * columns)
    return x


def test_the_arithmetic_is_what_it_says(tmp_path: Path):
    onnx.save(plain(), tmp_path / "plain.onnx")
    feeds = [{"x": RNG.standard_normal((rows, 8)).astype(np.float32)} for rows in (1, 3, 5)]
    ranges = calibrate(tmp_path / "plain.onnx", feeds)
    inputs = [np.maximum(np.concatenate([feed["x"] for feed in feeds]), 0)]
    inputs.append(np.maximum(inputs[0] @ FIRST, 0))
    largest = [float(np.abs(value).max()) for value in inputs]
    quantised = quantise(plain(), ranges, ["first", "second"])
    x = 2 * RNG.standard_normal((50, 8)).astype(np.float32)  # some beyond the range: clipped
    (found,) = session(quantised, optimised=False).run(None, {"x": x})
    step = largest[1] / 127 * np.abs(SECOND).sum(axis=0).max()  # of one activation that rounds the other way
    difference = np.abs(found - by_hand(x, largest))
    assert np.median(difference) < 1e-4
    assert difference.max() < step
    (kernels,) = session(quantised, optimised=True).run(None, {"x": x})
    assert np.abs(kernels - found).max() < step  # weights of 7 bits: nothing saturates on any processor


def test_only_the_given_nodes_are_quantised(tmp_path: Path):
    onnx.save(plain(), tmp_path / "plain.onnx")
    ranges = calibrate(tmp_path / "plain.onnx", [{"x": np.ones((1, 8), np.float32)}])
    model = plain()
    one = quantise(model, ranges, ["second"])
    assert {t.name for t in one.graph.initializer if t.data_type == TensorProto.FLOAT and t.dims} >= {"first"}
    assert sum(node.op_type == "QuantizeLinear" for node in one.graph.node) == 1
    assert quantise(model, ranges, []) == plain()
    assert model == plain()


def test_candidates_have_weights_and_do_not_read_inputs():
    """Without the Relu, `first` would stand where a patch embedding stands."""
    assert int8_nodes(GraphIndex(plain())) == ["first", "second"]
    direct = plain()
    direct.graph.node[1].input[0] = "x"
    assert int8_nodes(GraphIndex(direct)) == ["second"]


@pytest.mark.slow
@pytest.mark.parametrize("graph", ["frame_encoder", "temporal_encoder"])
def test_the_graphs_of_a_bundle(nano: Exported, graph: str):
    model = onnx.load(nano.folder / f"{graph}.int8.onnx")
    makers = {name: node for node in model.graph.node for name in node.output}
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    quantised = 0
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = constants[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()  # symmetric
        origins = [makers[name].op_type if name in makers else None for name in node.input]
        if "DequantizeLinear" not in origins:
            continue
        assert node.op_type == "MatMul"  # no convolution, no LayerNorm, no output
        assert origins[:2] == ["DequantizeLinear", "DequantizeLinear"]
        assert origins[2:] in ([], [None])  # a bias stays as it is
        assert makers[makers[node.input[0]].input[0]].op_type == "QuantizeLinear"
        weight = makers[node.input[1]]  # stored in int8, one scale a column or channel
        values, scales = constants[weight.input[0]], constants[weight.input[1]]
        assert values.dtype == np.int8
        assert np.abs(values.astype(int)).max() <= 64
        assert scales.shape == (values.shape[1],)
        quantised += 1
    plain_graph = onnx.load(nano.folder / f"{graph}.onnx").graph
    original = {t.name: t for t in plain_graph.initializer}
    products = [
        node
        for node in plain_graph.node
        if node.op_type == "MatMul" and "patch_weights" not in node.input and node.input[1] in original
    ]
    assert quantised == len(products)  # convolutions in int8 were slower than in float
    assert {o.domain for o in model.opset_import} == {""}
