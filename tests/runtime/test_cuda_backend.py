"""Bound buffers and captured graphs. Binding is real, on the CPU device; capture has a stand-in."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import emotion_runtime
from emotion_runtime.backends import cuda
from emotion_runtime.backends.base import Unavailable
from emotion_runtime.backends.cuda import BoundBackend, open_cuda
from emotion_runtime.backends.onnx import CPU, CUDA, OnnxBackend, onnx_errors, open_graph
from emotion_runtime.bundle import load_bundle
from emotion_runtime.errors import EmotionError
from emotion_runtime.open_backend import open_encoders

NANO = Path(emotion_runtime.__file__).parent / "bundles" / "nano"


def people(persons: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([persons, seed])
    return {
        "images": rng.integers(0, 256, (1, 112, 112, 3), dtype=np.uint8),
        "frame_index": np.zeros(persons, np.int64),
        "patch_weights": rng.random((persons, 49), np.float32),
    }


def test_bound_runs_give_the_same_as_plain_runs():
    graph = NANO / "frame_encoder.onnx"
    bound, plain = BoundBackend(open_graph(graph), device="cpu", capture=False), OnnxBackend(graph)
    kept = []
    for persons, seed in [(1, 0), (2, 1), (1, 2), (2, 3), (1, 4)]:
        feeds = people(persons, seed)
        feeds["patch_weights"] = np.asfortranarray(feeds["patch_weights"])  # callers may have this order
        before = {name: value.copy() for name, value in feeds.items()}
        kept.append((bound.run(feeds)["embeddings"], plain.run(feeds)["embeddings"]))
        for name, value in feeds.items():  # the caller's arrays are not used as buffers
            np.testing.assert_array_equal(value, before[name])
    for found, expected in kept:  # compared at the end, because later runs must not change them
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_graph_that_computes_the_shapes_of_its_outputs_runs():
    """As a detector of ultralytics with dynamic=True does, also at a fixed size."""
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    axes = onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [1], [1])
    nodes = [
        node("Unsqueeze", ["x", "axes"], ["y"]),
        node("Shape", ["y"], ["stated"]),
        node("Abs", ["stated"], ["shape"]),  # ONNX Runtime computes no shapes beyond this
        node("Reshape", ["y", "shape"], ["z"]),
    ]
    inputs, output = [info("x", onnx.TensorProto.FLOAT, ["n", 2])], info("z", onnx.TensorProto.FLOAT, None)
    model = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "g", inputs, [output], [axes]),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    content = model.SerializeToString()
    bound = BoundBackend(open_graph(content), device="cpu", capture=False)
    for rows in (2, 3, 2):
        feeds = {"x": np.ones((rows, 2), np.float32)}
        (found,), (expected,) = (each.run(feeds).values() for each in (bound, OnnxBackend(content)))
        np.testing.assert_array_equal(found, expected)
        assert found.shape == (rows, 1, 2)


class Session:
    """A real session that looks like one on CUDA and records how it is run."""

    def __init__(self, graph: Path) -> None:
        self._real = open_graph(graph)
        self.graphs: list[str] = []
        self.bindings: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def get_providers(self) -> list[str]:
        return [CUDA, CPU]

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.graphs.append(options.get_run_config_entry("gpu_graph_id"))
        self.bindings.append(binding)
        self._real.run_with_iobinding(binding)


def test_each_recurring_batch_size_has_a_captured_graph_and_its_own_buffers():
    session = Session(NANO / "frame_encoder.onnx")
    backend = BoundBackend(session, device="cpu", capture=True)
    for persons in (1, 2, 1, 1, 2, 4):
        backend.run(people(persons))
    # -1: neither captured nor replayed. From the second run on, each size has its own graph id.
    assert session.graphs == ["-1", "-1", "1", "1", "2", "-1"]
    of_one, of_two = [session.bindings[i] for i in (0, 2, 3)], [session.bindings[i] for i in (1, 4)]
    assert len({id(binding) for binding in of_one}) == len({id(binding) for binding in of_two}) == 1
    assert of_one[0] is not of_two[0]
    assert "CUDAExecutionProvider, captured graphs" in backend.description


def test_a_capture_that_fails_leaves_plain_runs_of_its_size(caplog: pytest.LogCaptureFixture):
    (fail,) = [each for each in onnx_errors() if each.__name__ == "Fail"]

    class Broken(Session):
        def run_with_iobinding(self, binding: Any, options: Any) -> None:
            super().run_with_iobinding(binding, options)
            if self.graphs[-1] == "1":
                raise fail("CUDA failure 901: operation failed due to an error during capture ; GPU=0")

    session = Broken(NANO / "frame_encoder.onnx")
    backend, plain = (
        BoundBackend(session, device="cpu", capture=True),
        OnnxBackend(NANO / "frame_encoder.onnx"),
    )
    with caplog.at_level(logging.WARNING):
        for persons, seed in [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]:
            feeds = people(persons, seed)
            (found,), (expected,) = (each.run(feeds).values() for each in (backend, plain))
            np.testing.assert_allclose(found, expected, atol=1e-6)
    assert session.graphs == ["-1", "1", "-1", "-1", "-1", "2"]
    (message,) = caplog.messages
    assert message.endswith(
        "no CUDA graph for frame_index (1,), images (1, 112, 112, 3), patch_weights (1, 49) "
        "(CUDA failure 901: operation failed due to an error during capture)"
    )


@pytest.fixture
def cuda_sessions(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, str]]:
    """Replace ONNX Runtime by one whose CUDA starts, and return the options of each opened session."""
    requested: list[Mapping[str, str]] = []

    def opened(graph: Path, provider: str, *, options: Mapping[str, str] | None = None) -> Session:
        assert provider == CUDA
        requested.append(options or {})
        return Session(graph)

    monkeypatch.setattr(cuda, "available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(cuda, "open_graph", opened)
    monkeypatch.setattr(cuda, "_DEVICE", "cpu")
    return requested


def test_sessions_are_opened_for_capture(cuda_sessions: list[Mapping[str, str]]):
    assert "captured graphs" in open_cuda(NANO / "temporal_encoder.onnx").description
    assert cuda_sessions == [{"enable_cuda_graph": "1"}]


def test_auto_uses_cuda_if_it_starts(
    cuda_sessions: list[Mapping[str, str]], caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO):
        frame, temporal = open_encoders("auto", load_bundle("nano"))
    assert len(cuda_sessions) == 2
    (message,) = caplog.messages
    assert message == f"backend auto: {frame.description}"
    assert CUDA in frame.description
    # Batches are padded to sizes that can be captured.
    clips = np.random.default_rng(0).standard_normal((3, 8, 256)).astype(np.float32)
    expected = OnnxBackend(NANO / "temporal_encoder.onnx").run({"embeddings": clips})["features"]
    np.testing.assert_allclose(temporal.run({"embeddings": clips})["features"], expected, atol=1e-5)


@pytest.fixture
def out_of_memory(monkeypatch: pytest.MonkeyPatch, cuda_sessions: list[Mapping[str, str]]) -> None:  # noqa: ARG001
    """Let every run on CUDA fail as the real one does when memory is full."""
    (fail,) = [each for each in onnx_errors() if each.__name__ == "Fail"]

    def run(_session: Session, _binding: Any, _options: Any) -> None:
        raise fail("CUDA failure 2:\nout of memory")

    monkeypatch.setattr(Session, "run_with_iobinding", run)


@pytest.mark.usefixtures("out_of_memory")
def test_a_failing_device_is_a_one_line_error():
    backend = open_cuda(NANO / "frame_encoder.onnx")
    with pytest.raises(EmotionError, match=r"does not run \(CUDA failure 2: out of memory\)") as error:
        backend.run(people(1))
    assert "\n" not in str(error.value)
    assert "--backend cpu" in str(error.value)


@pytest.mark.usefixtures("out_of_memory")
def test_auto_skips_a_cuda_that_starts_but_does_not_run(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        frame, _ = open_encoders("auto", load_bundle("nano"))
    assert CUDA not in frame.description
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "opens but does not run" in record.message
    assert "out of memory" in record.message


def test_auto_skips_a_cuda_whose_memory_is_full_when_a_graph_is_loaded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def full(graph: Path, _provider: str, **_: Any) -> Session:
        raise EmotionError(f"{graph}: ONNX Runtime cannot load it (CUDA failure 2: out of memory)")

    monkeypatch.setattr(cuda, "available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(cuda, "open_graph", full)
    frame, _ = open_encoders("auto", load_bundle("nano"))
    assert CPU in frame.description
    assert "out of memory" in caplog.messages[-1]
    with pytest.raises(Unavailable, match=r"backend cuda: .*out of memory"):
        open_encoders("cuda", load_bundle("nano"))


def test_a_graph_that_cannot_be_captured_still_runs(
    monkeypatch: pytest.MonkeyPatch,
    cuda_sessions: list[Mapping[str, str]],
    caplog: pytest.LogCaptureFixture,
):
    opened = cuda.open_graph

    def picky(graph: Path, provider: str, *, options: Mapping[str, str] | None = None) -> Session:
        session = opened(graph, provider, options=options)
        if options:
            raise EmotionError("not all nodes are on CUDA")
        return session

    monkeypatch.setattr(cuda, "open_graph", picky)
    with caplog.at_level(logging.WARNING):
        backend = open_cuda(NANO / "temporal_encoder.onnx")
    assert cuda_sessions == [{"enable_cuda_graph": "1"}, {}]
    assert "captured graphs" not in backend.description
    assert "without captured graphs (not all nodes are on CUDA)" in caplog.text
