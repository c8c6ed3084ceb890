"""Every exported graph is parsed and built by a real TensorRT, for a GPU that is not present."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import onnx
import pytest
from exported import Exported, trained
from onnx import helper
from trt_stand_ins import graph_of

from emotion_export.engine_graphs import read_model
from emotion_export.fp16 import half_precision
from emotion_export.graph_index import GraphIndex
from emotion_export.graphs import graph_sources
from emotion_export.layer_types import engine_types
from emotion_export.onnx import write_graph
from emotion_export.quantize import calibrate, int8_nodes, quantise
from emotion_export.tensorrt import Builder, build_engine, shape_ranges
from emotion_runtime.backends.buckets import Limits, limits_for
from emotion_runtime.bundle import load_bundle
from emotion_runtime.detectors import load_detector
from emotion_runtime.errors import EmotionError
from emotion_runtime.names import GRAPHS, GraphName, Precision
from emotion_runtime.tensorrt.api import make_logger
from emotion_runtime.tensorrt.gpu import Gpu, builder_name, start
from emotion_train.model import PRESETS, EmotionCLIP

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_shipped_bundle(rtx: Builder, graph: GraphName):
    path = load_bundle("nano").graph_path(graph)
    engine, types = build_engine(rtx, read_model(path), graph, Limits())
    # Weights are what an engine mostly is; nothing was dropped, nothing is there twice.
    assert 0.8 < len(engine) / path.stat().st_size < 4
    assert types["fp32"] > 50
    assert "fp16" not in types
    int8 = half_precision(read_model(load_bundle("nano").graph_path(graph, "int8")))
    _, types = build_engine(rtx, int8, graph, Limits())
    assert types.keys() >= {"fp16", "fp32", "int8"}


@pytest.mark.parametrize("graph", GRAPHS)
def test_all_precisions_of_an_export(rtx: Builder, small: Exported, graph: GraphName):
    bundle = load_bundle(small.folder)
    (fp32, types_of_fp32), (fp16, types_of_fp16), (_, types_of_int8) = (
        build_engine(rtx, read_model(bundle.graph_path(graph, precision)), graph, Limits())
        for precision in ("fp32", "fp16", "int8")
    )
    assert len(fp32) > 100_000
    assert {"fp16", "int8"}.isdisjoint(types_of_fp32)
    assert "fp16" in types_of_fp16
    assert "int8" in types_of_int8
    # As `emotion-export trt` builds it: fp16 instead of fp32 between the integer products.
    model = half_precision(read_model(bundle.graph_path(graph, "int8")))
    between, types = build_engine(rtx, model, graph, Limits())
    assert types["int8"] == types_of_int8["int8"]
    assert types["fp16"] > types_of_int8.get("fp16", 0)
    assert types["fp32"] < types_of_int8["fp32"]
    assert max(len(fp16), len(between)) < 0.8 * len(fp32)


@pytest.mark.parametrize("subject", ["sap with bias", "none"])
def test_all_ways_to_say_who_is_meant(
    rtx: Builder, frame_encoders: Callable[[str], tuple[EmotionCLIP, Path]], subject: str
):
    _, path = frame_encoders(subject)
    engine, _ = build_engine(rtx, read_model(path), subject, Limits())
    assert len(engine) > 100_000


@pytest.mark.parametrize("layers", [2, pytest.param(12, marks=pytest.mark.nightly)])
def test_vit_b_32_with_several_people_in_an_image(rtx: Builder, tmp_path: Path, layers: int):
    """All layers have the same operators and shapes; twelve of them take two minutes."""
    path = tmp_path / "shared.onnx"
    config = replace(
        PRESETS["vit-b-32"], subject="shared", vision_layers=layers, text_layers=1, text_vocab=100
    )
    write_graph(graph_sources(trained(config))[0], path)
    for precision in get_args(Precision):
        model = reduced(path, "frame_encoder", precision)
        engine, types = build_engine(rtx, model, "shared", Limits())
        assert precision in types
        assert 0.8 < len(engine) / model.ByteSize() < 2


@pytest.mark.nightly
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_vit_b_32(rtx: Builder, released: Exported, graph: GraphName, precision: Precision):
    path = load_bundle(released.folder).graph_path(graph)
    model = reduced(path, graph, precision)
    engine, types = build_engine(rtx, model, graph, Limits())
    assert precision in types
    assert 0.8 < len(engine) / model.ByteSize() < 2


def reduced(path: Path, graph: GraphName, precision: Precision) -> onnx.ModelProto:
    """As `emotion-export onnx --precision` makes it, without its search and calibrated on noise."""
    model = read_model(path)
    if precision == "fp16":
        return half_precision(model)
    if precision == "int8":
        rng = np.random.default_rng(0)
        feed: dict[str, np.ndarray] = {"embeddings": rng.random((1, 8, 512), np.float32)}
        if graph == "frame_encoder":
            feed = {
                "images": rng.integers(0, 256, (1, 224, 224, 3), np.uint8),
                "frame_index": np.zeros(1, np.int64),
                "patch_weights": rng.random((1, 49), np.float32),
            }
        return quantise(model, calibrate(path, [feed]), int8_nodes(GraphIndex(model)))
    return model


def test_a_detector(rtx: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    from emotion_export.detector import export_detector  # noqa: PLC0415 - imports torch

    path = tmp_path / "yolo11n.onnx"
    export_detector("yolo11n.yaml", path, imgsz=64)
    engine, _ = build_engine(rtx, read_model(path), "yolo11n", Limits())
    assert 0.8 < len(engine) / path.stat().st_size < 4


def test_centerface(rtx: Builder):
    """The default detector's file takes frames of any size; an engine has one of them."""
    graph = load_detector("face").graph
    model = onnx.load_from_string(graph.at_size((32, 64)))
    assert shape_ranges(model, "centerface", Limits()) == {
        "frames_uint8": ((1, 32, 64, 3), (1, 32, 64, 3), (4, 32, 64, 3))
    }
    engine, _ = build_engine(rtx, model, "centerface", Limits())
    assert len(engine) > 1_000_000


def test_an_engine_is_the_same_every_time(rtx: Builder):
    model = read_model(load_bundle("nano").graph_path("temporal_encoder"))
    first, second = (build_engine(rtx, model, "temporal_encoder", Limits()) for _ in range(2))
    assert first == second
    other = build_engine(rtx, model, "temporal_encoder", Limits(persons=8))
    assert other[0] != first[0]


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("Unheard", ["x"], ["y"], name="the_odd_one", domain="made.up"), "Unheard"),
        (helper.make_node("Det", ["x"], ["y"], name="the_odd_one"), "Det"),
    ],
    ids=["of another domain", "of ONNX"],
)
def test_an_unsupported_node_is_refused_by_its_name(rtx: Builder, node: onnx.NodeProto, words: str):
    first = helper.make_node("Relu", ["x"], ["between"], name="a_good_one")
    node.input[0] = "between"
    with pytest.raises(EmotionError) as error:
        build_engine(rtx, graph_of([first, node], input_shape=[2, 2]), "strange", Limits())
    line = str(error.value)
    assert "\n" not in line
    assert (
        f"strange: tensorrt-rtx {rtx.library.__version__} refuses the graph ({words} node 'the_odd_one': "
        in line
    )
    assert "a_good_one" not in line
    assert "CUDA driver" not in line  # true here, and not the reason
    assert "emotion-export onnx" in line


def test_a_build_that_fails_is_one_line_with_the_reason(rtx: Builder):
    """The graph can be parsed; what it computes has no room anywhere."""
    tile = helper.make_node("Tile", ["x", "times"], ["y"], name="tile")
    graph = graph_of([tile], input_shape=[4, 4], weights={"times": np.array([1 << 20, 1 << 20], np.int64)})
    with pytest.raises(EmotionError) as error:
        build_engine(rtx, graph, "large", Limits())
    line = str(error.value)
    assert line.startswith(f"large: tensorrt-rtx {rtx.library.__version__} cannot build it (")
    assert "exceeds the maximum supported element count" in line
    assert "\n" not in line
    assert "CUDA driver" not in line  # true here, and not the reason


def test_an_opset_that_crashes_the_builder_is_refused_before(rtx: Builder):
    """Left to itself, TensorRT-RTX 1.7 ends the process with a segmentation fault."""
    attention = helper.make_node("Attention", ["x", "x", "x"], ["y"], name="attention")
    graph = graph_of([attention], input_shape=["P", 4, 8, 64])
    graph.opset_import[0].version = 23
    with pytest.raises(EmotionError, match=r"new: opset 23, expected 22 or less: .* opset 17 to 20$"):
        build_engine(rtx, graph, "new", Limits())


def test_a_builder_that_does_not_start_names_the_driver(rtx: Builder):
    """Its bindings raise TypeError if the driver is too old for their CUDA."""

    def fails(_logger: object) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    library = SimpleNamespace(**vars(rtx.library))
    library.Builder = fails
    graph = graph_of([helper.make_node("Relu", ["x"], ["y"])], input_shape=[2, 2])
    with pytest.raises(EmotionError, match=r"does not start on this driver, which supports CUDA 12\.6"):
        build_engine(replace(rtx, library=library), graph, "relu", Limits())


def test_what_tensorrt_reports_is_kept_for_the_error_and_not_printed(
    rtx: Builder, capfd: pytest.CaptureFixture[str]
):
    """Its own logger prints to standard output, which may carry results."""
    logger = make_logger(rtx.library)
    runtime = start(rtx.library.Runtime, logger, "tensorrt-rtx", "12.6")
    logger.reason()  # that there is no GPU here
    assert runtime.deserialize_cuda_engine(b"no engine" * 100) is None
    reason = logger.reason()
    assert "incompatible serialization version" in reason
    assert "\n" not in reason
    assert logger.reason() == "TensorRT gives no reason"
    assert capfd.readouterr() == ("", "")


def test_ranges_of_the_shapes():
    model = read_model(load_bundle("nano").graph_path("frame_encoder"))
    assert shape_ranges(model, "frame_encoder", Limits(persons=16, images=4)) == {
        "images": ((1, 112, 112, 3), (1, 112, 112, 3), (4, 112, 112, 3)),
        "frame_index": ((1,), (4,), (16,)),
        "patch_weights": ((1, 49), (4, 49), (16, 49)),
    }
    ranges = shape_ranges(model, "frame_encoder", limits_for("subject"))
    assert ranges["images"] == ((1, 112, 112, 3), (4, 112, 112, 3), (16, 112, 112, 3))
    assert ranges["frame_index"] == ((1,), (4,), (16,))
    ranges = shape_ranges(model, "frame_encoder", Limits(persons=2, images=1))
    assert ranges["patch_weights"] == ((1, 49), (2, 49), (2, 49))
    relu = helper.make_node("Relu", ["x"], ["y"])
    odd = graph_of([relu], input_shape=[1, 3, "height", 64])
    with pytest.raises(EmotionError, match=r"odd: dimension 'height' of input x is dynamic, expected P, F"):
        shape_ranges(odd, "odd", Limits())


def test_fp32_for_turing_is_refused_with_the_precision_that_works(rtx: Builder):
    model = read_model(load_bundle("nano").graph_path("temporal_encoder"))
    with pytest.raises(EmotionError, match=r"Turing family \(SM75\) .*; omit --precision") as error:
        build_engine(replace(rtx, gpu=Gpu("", "7.5")), model, "temporal_encoder", Limits())
    assert "\n" not in str(error.value)


def test_an_engine_for_several_architectures_builds(rtx: Builder):
    model = graph_of([helper.make_node("Relu", ["x"], ["y"])], input_shape=[2, 2])
    one, several = (
        build_engine(replace(rtx, gpu=Gpu("", targets)), model, "relu", Limits())[0]
        for targets in ("8.6", "8.0 8.6 8.9")
    )
    assert several != one


def test_the_type_of_an_engines_layers_in_the_words_of_all_versions():
    layers = [
        {"Name": "a", "Outputs": [{"Name": "x", "Format/Datatype": "Half"}]},
        {"Name": "b", "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP16 format"}]},
        {"Name": "c", "Outputs": [{"Name": "z", "Format/Datatype": "Row major linear FP32"}]},
        {"Name": "d", "Outputs": [{"Name": "z", "Format/Datatype": "Float"}]},
        {"Name": "e", "Outputs": [{"Name": "z", "Format/Datatype": "Row major linear BFloat16"}]},
        {"Name": "f", "Outputs": [{"Name": "z", "Format/Datatype": "Int8"}]},
        {"Name": "g", "Outputs": [{"Name": "z", "Format/Datatype": "N/A due to dynamic shapes"}]},
        {"Name": "g2", "Outputs": [{"Name": "z", "Format/Datatype": "UInt8"}]},  # is not int8
        {"Name": "h", "Outputs": []},
        {"Name": "i", "Outputs": [{"Name": "z", "Format": "Row major linear", "DataType": "Half"}]},  # 11
        "a name alone, from an engine without details",
    ]
    counts = engine_types(json.dumps({"Layers": layers, "Bindings": []}))
    assert counts == {"fp16": 3, "fp32": 2, "bf16": 1, "int8": 1, "other": 2}


def test_a_description_that_cannot_be_read_costs_no_engine(caplog: pytest.LogCaptureFixture):
    assert engine_types('{"Layers": [{"Weights": -nan(ind)}]}') == {}
    assert "description of the engine cannot be read" in caplog.text


def test_a_file_that_is_no_onnx(tmp_path: Path):
    path = tmp_path / "file.onnx"
    with pytest.raises(EmotionError, match=r"file\.onnx cannot be read \(No such file or directory\)"):
        read_model(path)
    path.write_bytes(b"\xff\xff not protobuf")
    with pytest.raises(EmotionError, match=r"file\.onnx is not an ONNX file"):
        read_model(path)
    path.write_bytes(onnx.ModelProto(ir_version=9).SerializeToString())
    with pytest.raises(EmotionError, match="changed while"):
        read_model(path, "0" * 64)


def test_the_name_of_a_builder_has_version_and_platform(rtx: Builder):
    name = builder_name("tensorrt-rtx", rtx.library)
    assert name.startswith(f"tensorrt-rtx {rtx.library.__version__} ")
    assert len(name.split()) == 4
