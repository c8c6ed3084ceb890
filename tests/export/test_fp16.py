"""Which nodes compute in float16, and that the graph stays the same function."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from exported import Exported
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from emotion_export.fp16 import half_precision
from emotion_export.graph_index import GraphIndex
from emotion_export.onnx import check_graph, save_graph
from emotion_export.parity import TOLERANCES
from emotion_runtime.bundle import load_bundle
from emotion_runtime.errors import EmotionError
from emotion_train.model import EmotionCLIP

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
WEIGHT = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
BIAS = np.array([0.1, -0.2, 0.3, 1 / 3], np.float32)


def block(weight: NDArray[np.float32] = WEIGHT) -> onnx.ModelProto:
    """A block of a transformer in small: y = softmax(x + gelu(norm(x) W + b) W)."""
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gain", "b"], ["norm"], name="norm"),
        helper.make_node("MatMul", ["norm", "w"], ["wide"], name="first"),
        helper.make_node("Add", ["wide", "b"], ["biased"], name="bias"),
        helper.make_node("Gelu", ["biased"], ["hidden"], name="gelu"),
        helper.make_node("MatMul", ["hidden", "w"], ["narrow"], name="second"),
        helper.make_node("Add", ["x", "narrow"], ["stream"], name="residual"),
        helper.make_node("Softmax", ["stream"], ["y"], name="softmax"),
    ]
    constants = {"gain": np.ones(4, np.float32), "b": BIAS, "w": weight}
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("x", FLOAT, ["P", 4])],
        [helper.make_tensor_value_info("y", FLOAT, ["P", 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def types(model: onnx.ModelProto) -> dict[str, int]:
    """Type of what each node computes, by the node's name."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    return {node.name: values[node.output[0]] for node in graph.node}


def run(model: onnx.ModelProto | Path, feed: dict[str, NDArray]) -> NDArray[np.float32]:
    content = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(content).run(None, feed)[0]


def test_products_are_half_and_what_adds_up_is_not():
    found = types(half_precision(block()))
    assert {name for name, kind in found.items() if kind == HALF and "cast" not in name} == {
        "first",
        "bias",
        "gelu",
        "second",
    }
    assert {name for name, kind in found.items() if kind == FLOAT and "cast" not in name} == {
        "norm",
        "residual",
        "softmax",
    }
    assert sum("cast" in name for name in found) == 2  # into the branch, and out of it


def test_weights_are_rounded_once_and_nothing_else_is_left():
    half = half_precision(block())
    constants = {t.name: numpy_helper.to_array(t) for t in half.graph.initializer}
    assert {name: value.dtype.name for name, value in constants.items()} == {
        "gain": "float32",
        "b": "float32",  # of the norm, and again for the bias
        "b_half": "float16",
        "w_half": "float16",
    }
    np.testing.assert_array_equal(constants["w_half"], WEIGHT.astype(np.float16))


def test_the_model_that_is_given_stays_as_it_is():
    model = block()
    before = model.SerializeToString()
    half_precision(model)
    assert model.SerializeToString() == before


def test_the_function_is_the_same_to_eleven_bits():
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    expected, found = run(block(), {"x": x}), run(half_precision(block()), {"x": x})
    assert 0 < np.abs(found - expected).max() < 2e-3
    assert found.dtype == np.float32


def test_kept_nodes_stay_float_with_their_weights():
    half = half_precision(block(), keep=["first"])
    found = types(half)
    assert (found["first"], found["bias"], found["gelu"], found["second"]) == (FLOAT, FLOAT, FLOAT, HALF)
    assert {t.name: t.data_type for t in half.graph.initializer}["w"] == FLOAT
    everything = half_precision(block(), keep=["first", "second"])
    assert everything == block()  # not a cast remains


def test_a_weight_that_would_overflow_stays_float():
    large = WEIGHT.copy()
    large[0, 0] = 7e4  # the largest float16 is 65504
    half = half_precision(block(large))
    assert HALF not in types(half).values()
    assert np.isfinite(run(half, {"x": np.ones((2, 4), np.float32)})).all()


def test_an_output_that_is_half_is_given_as_float():
    model = block()
    del model.graph.node[5:]
    model.graph.output[0].name = "narrow"
    half = half_precision(model)
    check = onnx.shape_inference.infer_shapes(half, strict_mode=True).graph
    assert check.output[0].type.tensor_type.elem_type == FLOAT
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    np.testing.assert_allclose(run(half, {"x": x}), run(model, {"x": x}), atol=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("graph", ["frame_encoder", "temporal_encoder"])
def test_the_graphs_of_a_bundle(nano: Exported, graph: str):
    path = nano.folder / f"{graph}.fp16.onnx"
    model = onnx.load(path)
    found = types(model)
    kinds = {node.name: node.op_type for node in model.graph.node}
    by_kind: dict[str, Counter[int]] = {}
    for name, kind in kinds.items():
        by_kind.setdefault(kind, Counter())[found[name]] += 1
    for kind in ("MatMul", "Conv", "Gelu"):
        assert set(by_kind.get(kind, {HALF: 0})) == {HALF}
    for kind in ("LayerNormalization", "Softmax"):
        assert set(by_kind[kind]) == {FLOAT}
    index = GraphIndex(model)
    for node in model.graph.node:  # what a norm reads is the stream: summed in float, or another norm
        if node.op_type == "LayerNormalization" and "patches" not in node.name:
            assert index.types[node.input[0]] == FLOAT
        if node.op_type == "Cast":  # no value goes to half and back for nothing
            (origin,) = [n for n in model.graph.node if node.input[0] in n.output] or [None]
            assert origin is None or origin.op_type != "Cast"
    matrices = [t for t in model.graph.initializer if len(t.dims) >= 2 and np.prod(t.dims) > 10_000]
    assert {t.data_type for t in matrices} == {HALF}
    original = nano.folder / f"{graph}.onnx"
    assert path.stat().st_size < 0.55 * original.stat().st_size
    first = [node.op_type for node in model.graph.node if "images" in node.input]
    assert first in ([], ["Cast"])  # TensorRT refuses arithmetic on uint8
    check_graph(path, "fp16")
    with pytest.raises(EmotionError, match="float16"):
        check_graph(path)


@pytest.mark.parametrize("bundle", ["nano", pytest.param("vit-b-32", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("graph", ["frame_encoder", "temporal_encoder"])
def test_the_converter_of_onnx_runtime_is_no_better(request: pytest.FixtureRequest, bundle: str, graph: str):
    """Otherwise it should replace ours."""
    loaded = load_bundle("nano" if bundle == "nano" else request.getfixturevalue("released").folder)
    model = onnx.load(loaded.graph_path(graph))
    theirs = convert_float_to_float16(
        onnx.load(loaded.graph_path(graph)),
        keep_io_types=True,
        op_block_list=["LayerNormalization", "Softmax"],
    )
    rng, spec = np.random.default_rng(5), loaded.manifest.preprocess
    feed = {
        "images": rng.integers(0, 256, (2, spec.size, spec.size, 3), dtype=np.uint8),
        "frame_index": np.array([1, 0, 1]),
        "patch_weights": rng.random((3, spec.patches), np.float32),
    }
    if graph == "temporal_encoder":
        shape = (3, loaded.manifest.clip_frames, loaded.manifest.embedding_dim)
        feed = {"embeddings": rng.standard_normal(shape).astype(np.float32)}
    expected = run(model, feed)
    ours, other = (np.abs(run(half, feed) - expected).mean() for half in (half_precision(model), theirs))
    assert 0 < ours < 1.05 * other  # ViT-B/32's temporal encoder: 0.99 of it
    assert other < TOLERANCES["fp16"].mean_abs
    casts = [sum(n.op_type == "Cast" for n in m.graph.node) for m in (half_precision(model), theirs)]
    assert casts[0] < casts[1]


@pytest.mark.slow
@pytest.mark.parametrize("subject", ["sap", "sap with bias", "none"])
def test_every_kind_of_subject(
    frame_encoders: Callable[[str], tuple[EmotionCLIP, Path]], tmp_path: Path, subject: str
):
    _, path = frame_encoders(subject)
    half = half_precision(onnx.load(path))
    save_graph(half, tmp_path / "half.onnx", "fp16")
    rng = np.random.default_rng(5)
    feed = {
        "images": rng.integers(0, 256, (2, 112, 112, 3), dtype=np.uint8),
        "frame_index": np.array([1, 0, 1]),
        "patch_weights": rng.random((3, 49), np.float32),
    }
    expected, found = run(path, feed), run(tmp_path / "half.onnx", feed)
    assert 0 < np.abs(found - expected).max() < TOLERANCES["fp16"].max_abs


def quantised_block() -> onnx.ModelProto:
    """y = x + dequantise(quantise(gelu(norm(x)))) W, with W in int8."""
    zero, scale = np.int8(0), np.float32(0.03)
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gain", "b"], ["norm"], name="norm"),
        helper.make_node("QuantizeLinear", ["norm", "scale", "zero"], ["q"], name="quantise"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"], name="dequantise"),
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["weight"], name="weight"),
        helper.make_node("MatMul", ["d", "weight"], ["wide"], name="first"),
        helper.make_node("Gelu", ["wide"], ["hidden"], name="gelu"),
        helper.make_node("QuantizeLinear", ["hidden", "scale", "zero"], ["q2"], name="quantise_2"),
        helper.make_node("DequantizeLinear", ["q2", "scale", "zero"], ["d2"], name="dequantise_2"),
        helper.make_node("MatMul", ["d2", "weight"], ["narrow"], name="second"),
        helper.make_node("Add", ["x", "narrow"], ["y"], name="residual"),
    ]
    weight = np.rint(20 * WEIGHT).astype(np.int8)
    constants = {"gain": np.ones(4, np.float32), "b": BIAS, "w": weight, "scale": scale, "zero": zero}
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("x", FLOAT, ["P", 4])],
        [helper.make_tensor_value_info("y", FLOAT, ["P", 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_between_integer_products_a_quantised_graph_is_float16():
    half = half_precision(quantised_block())
    found = types(half)
    for name in ("dequantise", "weight", "first", "gelu", "dequantise_2", "second"):
        assert found[name] == HALF
    assert (found["norm"], found["residual"]) == (FLOAT, FLOAT)
    assert found["quantise"] == found["quantise_2"] == TensorProto.INT8
    x = np.random.default_rng(1).standard_normal((50, 4)).astype(np.float32)
    difference = np.abs(run(half, {"x": x}) - run(quantised_block(), {"x": x}))
    assert np.median(difference) < 2e-3
