"""Backends run a graph as written, and never something else than was asked for."""

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from emotion_runtime import backends
from emotion_runtime.backends import open_backend
from emotion_runtime.backends.onnx import CPU, CUDA, default_threads
from emotion_runtime.errors import EmotionError


@pytest.fixture
def graph(tiny_bundle: Path) -> Path:
    return tiny_bundle / "temporal_encoder.onnx"


@pytest.mark.parametrize("persons", [1, 3, 8])
def test_runs_the_graph_for_any_number_of_persons(graph: Path, persons: int):
    clips = np.random.default_rng(persons).normal(size=(persons, 4, 4)).astype(np.float32)
    outputs = open_backend("cpu", graph).run({"embeddings": clips})
    assert list(outputs) == ["features"]
    # The graph's own formula: a weighted sum over time, oldest first.
    expected = np.einsum("t,ptd->pd", [0.1, 0.2, 0.3, 0.4], clips)
    np.testing.assert_allclose(outputs["features"], expected, atol=1e-6)


def test_says_what_it_runs_on(graph: Path):
    description = open_backend("cpu", graph).description
    assert CPU in description
    assert f"{default_threads()} threads" in description


def test_auto_is_the_cpu_where_no_cuda_was_built_in(graph: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backends, "available_providers", lambda: [CPU])
    assert CPU in open_backend("auto", graph).description


def test_cuda_by_name_is_an_error_where_it_was_not_built_in(graph: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backends, "available_providers", lambda: [CPU])
    with pytest.raises(EmotionError, match=r"no CUDA in it.*emotion-runtime\[gpu\].*--backend cpu"):
        open_backend("cuda", graph)


@pytest.fixture
def silent_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ONNX Runtime that has CUDA, cannot start it and goes on with the CPU, as the real one does."""
    real = onnxruntime.InferenceSession

    def session(model: bytes, options: Any, providers: list[Any]) -> Any:
        asked = [each if isinstance(each, str) else each[0] for each in providers]
        return real(model, options, providers=[name for name in asked if name != CUDA])

    monkeypatch.setattr(backends, "available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)


@pytest.mark.usefixtures("silent_fallback")
def test_cuda_by_name_is_an_error_where_it_does_not_start(graph: Path):
    with pytest.raises(EmotionError, match="backend cuda: CUDA did not start"):
        open_backend("cuda", graph)


@pytest.mark.usefixtures("silent_fallback")
def test_auto_falls_back_and_says_so(graph: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        assert CPU in open_backend("auto", graph).description
    assert "CUDA did not start" in caplog.text


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_tensorrt_says_what_to_use(graph: Path, name: str):
    with pytest.raises(
        EmotionError, match=f"{name} is not in this version yet: use --backend cuda, cpu or auto"
    ):
        open_backend(name, graph)


def test_unknown_names_are_told_the_known_ones(graph: Path):
    with pytest.raises(EmotionError, match="'gpu' is not known: expected auto, cpu, cuda"):
        open_backend("gpu", graph)


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda"])
def test_without_onnxruntime(graph: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EmotionError, match=r'pip install "emotion-runtime\[cpu\]"'):
        open_backend(name, graph)


def test_a_graph_that_onnxruntime_cannot_read(tmp_path: Path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(EmotionError, match=r"broken\.onnx: ONNX Runtime .* cannot load it"):
        open_backend("cpu", path)


def test_weights_outside_the_hashed_file_are_refused(tmp_path: Path):
    weight = onnx.numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
    float32 = onnx.TensorProto.FLOAT
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "split",
        [onnx.helper.make_tensor_value_info("x", float32, ["P", 2])],
        [onnx.helper.make_tensor_value_info("y", float32, ["P", 2])],
        [weight],
    )
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "split.onnx"
    onnx.save(model, path, save_as_external_data=True, size_threshold=0, location="split.data")
    with pytest.raises(EmotionError, match="as one file"):
        open_backend("cpu", path)
