"""emotion-export trt on the GPU that will run the engines, where each engine is compared with the model."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from trt_stand_ins import Engine, EngineAndTypes, Main, files_in, only_line, types_of

from emotion_export import engines as building
from emotion_runtime import detector_parity
from emotion_runtime.bundle import load_bundle
from emotion_runtime.tensorrt.cache import read_sidecars

NANO = ("--bundle", "nano", "--flavor", "rtx", "--max-persons", "2")  # the parity check of 16 takes seconds
FACE = ("--detector", "face", "--frame-size", "320x180", "--flavor", "rtx", "--cache")


def test_on_a_gpu_the_engine_is_compared_with_the_model(to_trt: Main, gpu: list[str], tmp_path: Path):
    assert to_trt(*NANO, "--cache", tmp_path) == 0
    assert gpu == ["frame_encoder in fp16", "temporal_encoder in fp16"]
    for sidecar in read_sidecars(tmp_path):
        assert (sidecar.key.gpu, sidecar.precision) == ("Test GPU", "fp16")
        assert sidecar.checked_on == "Test GPU, driver for CUDA 12.6"
        assert {row.graph for row in sidecar.parity} == {sidecar.key.graph}
        assert all(0.9999 < row.cosine_min < 1 for row in sidecar.parity)
        assert all(0.9 < (row.top1_agreement or 0) <= 1 for row in sidecar.parity)
        assert sidecar.loaded_types == {"fp16": 1}
        assert sidecar.layer_types["fp16"] > 1


def wrong_in_fp16(_builder: object, model: onnx.ModelProto, _name: str, _limits: object) -> EngineAndTypes:
    """A builder that negates all fp16 weights."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float16:
            tensor.CopyFrom(numpy_helper.from_array(-8 * values, tensor.name))
    return model.SerializeToString(), types_of(model)


@pytest.mark.slow
@pytest.mark.usefixtures("gpu")
def test_on_a_gpu_that_is_wrong_in_fp16(
    to_trt: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(building, "build_engine", wrong_in_fp16)
    assert to_trt(*NANO, "--cache", tmp_path) == 0
    frame = next(sidecar for sidecar in read_sidecars(tmp_path) if sidecar.key.graph == "frame_encoder")
    assert (frame.precision, frame.loaded_types) == ("fp32", {"fp32": 1})
    assert [line.split()[0] for line in frame.refused] == ["fp16", "mixed", "mixed"]
    assert capsys.readouterr().err.count("frame_encoder: mixed differs") == 2


@pytest.mark.usefixtures("gpu")
def test_a_precision_by_name_that_is_wrong_on_this_gpu_is_an_error(
    to_trt: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(building, "build_engine", lambda *_: (garbled(), {}))
    assert to_trt(*NANO, "--precision", "fp32", "--cache", tmp_path) == 2
    assert re.search(
        r"on this device fp32 differs .*The engine is not kept: use --precision", only_line(capsys)
    )
    assert files_in(tmp_path) == []


def garbled() -> bytes:
    """The shipped frame encoder with one weight negated."""
    model = onnx.load(load_bundle("nano").graph_path("frame_encoder"))
    weight = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    weight.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weight), weight.name))
    return model.SerializeToString()


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("words", ["Int8", "N/A due to dynamic shapes"])
def test_types_reported_by_the_inspector_are_only_recorded(
    to_trt: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
):
    """The network is fp16; what the words of some version make of it is no reason to throw it away."""
    information = json.dumps({"Layers": [{"Outputs": [{"Format/Datatype": words}]}]})
    monkeypatch.setattr(Engine, "layer_information", lambda _: information)
    assert to_trt(*NANO, "--cache", tmp_path) == 0
    for sidecar in read_sidecars(tmp_path):
        assert sidecar.precision == "fp16"
        assert sidecar.loaded_types in ({"int8": 1}, {"other": 1})


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("where", [[], ["--target", "SM86"]], ids=["here", "ahead of time"])
@pytest.mark.parametrize(
    ("asked", "types", "called"),
    [
        ("fp32", {"fp16": 1, "fp32": 9}, None),
        ("fp32", {"fp32": 9, "int8": 1}, None),
        ("ladder", {"fp16": 9, "int8": 1}, None),
        ("ladder", {"fp32": 9, "int64": 1}, "fp32"),  # a graph without weights is the same in fp16
        ("fp32", {"fp32": 9, "int64": 1}, "fp32"),
    ],
)
def test_the_precision_of_an_engine_follows_from_its_network(
    to_trt: Main, tmp_path: Path, where: list[str], asked: str, types: dict[str, int], called: str | None
):
    def build(_builder: object, model: onnx.ModelProto, *_: object) -> EngineAndTypes:
        return model.SerializeToString(), types

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "build_engine", build)
        arguments = [*NANO, "--precision", asked, *where]
        status = to_trt(*arguments, "--cache", tmp_path)
    assert status == (0 if called else 2)
    assert {sidecar.precision for sidecar in read_sidecars(tmp_path)} == ({called} if called else set())


@pytest.mark.usefixtures("gpu")
def test_an_engine_below_the_requested_precision_is_refused(
    to_trt: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    types = {"fp16": 1, "fp32": 9}
    monkeypatch.setattr(building, "build_engine", lambda _, model, *__: (model.SerializeToString(), types))
    assert to_trt(*NANO, "--precision", "fp32", "--cache", tmp_path) == 2
    assert f"fp32 was requested, but the graph is in fp16 (layers: {types})" in only_line(capsys)


def test_a_detector_is_compared_by_its_boxes(
    to_trt: Main, gpu: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(detector_parity, "MOST_FRAMES", 2)
    assert to_trt(*FACE, tmp_path) == 0
    assert gpu == ["face_320x192 in fp16"]
    (sidecar,) = read_sidecars(tmp_path)
    assert (sidecar.key.gpu, sidecar.precision) == ("Test GPU", "fp16")
    assert [row.frames for row in sidecar.parity] == [1, 2]
    assert all(row.samples and row.max_abs < 0.01 for row in sidecar.parity)


@pytest.mark.usefixtures("gpu")
def test_a_detector_that_is_wrong_in_fp16_is_built_in_fp32(
    to_trt: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(detector_parity, "MOST_FRAMES", 1)
    monkeypatch.setattr(building, "build_engine", wrong_in_fp16)
    assert to_trt(*FACE, tmp_path) == 0
    (sidecar,) = read_sidecars(tmp_path)
    assert sidecar.precision == "fp32"
    assert "face_320x192: fp16: detector `face`: its network returned scores" in capsys.readouterr().err
