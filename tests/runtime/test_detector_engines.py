"""Detectors on engines from the cache, and what finds people while there is none."""

import logging
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from engine_stand_ins import GPU, SECONDS, VERSION, Cache, sidecar, sorted_rows
from found_boxes import SIZE, agree
from numpy.typing import NDArray

from emotion_runtime.backends.base import Backend, Unavailable
from emotion_runtime.detector_backend import run_network
from emotion_runtime.detectors.centerface import CenterFace
from emotion_runtime.detectors.network import NetworkDetector
from emotion_runtime.errors import EmotionError
from emotion_runtime.tensorrt import build_client, open_engines
from emotion_runtime.tensorrt import cache as engines
from emotion_runtime.tensorrt.keys import detector_key


def store(
    cache: Cache,
    detector: NetworkDetector,
    content: bytes | None = None,
    checked_on: str = GPU.with_driver,
    size: tuple[int, int] = SIZE,
) -> None:
    key = detector_key(detector.graph, size, "ladder", builder=f"tensorrt{VERSION}", gpu=GPU)
    content = content or detector.graph.at_size(size)
    engines.store_engine(cache.folder, content, sidecar(key, content, checked_on))


def without_colours(face: CenterFace) -> bytes:
    """Return the graph with the order of the colours reversed."""
    model = onnx.load_from_string(face.graph.at_size(SIZE))
    (order,) = [node for node in model.graph.node if node.op_type == "Constant"]
    order.attribute[0].t.CopyFrom(onnx.helper.make_tensor("", onnx.TensorProto.INT64, [3], [0, 1, 2]))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("by_name", [True, False])
def test_engines_come_from_the_cache_and_are_checked_once(
    cache: Cache, small_face: CenterFace, small_frames: list[NDArray[np.uint8]], *, by_name: bool
):
    store(cache, small_face, checked_on="")
    run_network(small_face, "tensorrt", by_name=by_name, precision=None)
    assert small_face.batches
    small_face(small_frames[0])
    (stored,) = engines.read_sidecars(cache.folder)
    assert stored.checked_on == GPU.with_driver
    assert [row.frames for row in stored.parity] == [1, 2]
    assert agree(small_face, small_frames, 0.999)


def test_an_engine_with_other_boxes_is_rejected_and_not_used(
    cache: Cache,
    small_face: CenterFace,
    small_frames: list[NDArray[np.uint8]],
    caplog: pytest.LogCaptureFixture,
):
    store(cache, small_face, without_colours(small_face), "")
    run_network(small_face, "tensorrt", by_name=False, precision=None)
    assert agree(small_face, small_frames, 0.999)
    (message,) = caplog.messages
    assert "the engine of face_320x192 fails the parity check on this GPU" in message
    assert "emotion-export trt --detector face --frame-size 320x192 --detector-size 320" in message
    assert engines.read_sidecars(cache.folder) == []


def test_a_gpu_that_the_encoders_have_filled_leaves_the_detector_to_the_cpu(
    cache: Cache,
    small_face: CenterFace,
    small_frames: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def full(*_: object, **__: object) -> Backend:
        raise EmotionError("CUDA: cuMemAlloc_v2 failed with CUDA_ERROR_OUT_OF_MEMORY")

    store(cache, small_face)
    monkeypatch.setattr(open_engines, "TensorRTBackend", full)
    run_network(small_face, "tensorrt", by_name=False, precision=None)
    assert agree(small_face, small_frames, 0.999)
    (message,) = caplog.messages
    assert "CPUExecutionProvider" in message
    assert "CUDA_ERROR_OUT_OF_MEMORY" in message
    run_network(small_face, "tensorrt", by_name=True, precision=None)
    with pytest.raises(Unavailable, match="CUDA_ERROR_OUT_OF_MEMORY"):
        small_face(small_frames[0])


@pytest.mark.usefixtures("no_builder")
def test_without_a_builder_a_missing_engine_is_an_error_with_the_command(
    small_face: CenterFace, small_frames: list[NDArray[np.uint8]]
):
    run_network(small_face, "tensorrt", by_name=True, precision="fp32")
    command = "emotion-export trt --detector face --frame-size 320x192 --detector-size 320 --flavor tensorrt"
    with pytest.raises(Unavailable, match=rf"no engine of face_320x192 .*{command} --precision fp32"):
        small_face(small_frames[0])


def test_onnx_runtime_finds_people_while_the_engine_is_built(
    cache: Cache,
    small_face: CenterFace,
    small_frames: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    go, commands = threading.Event(), list[list[str]]()

    def build(command: list[str]) -> None:
        commands.append(command)
        assert go.wait(SECONDS)
        store(cache, small_face)

    monkeypatch.setattr(build_client, "run_builder", build)
    run_network(small_face, "tensorrt", by_name=True, precision=None, live=True)
    with caplog.at_level(logging.INFO):
        before = small_face(small_frames[0])
        go.set()
        (thread,) = [each for each in threading.enumerate() if each.name == "tensorrt engines"]
        thread.join(SECONDS)
        after = [small_face(small_frames[0]) for _ in range(2)]
    assert commands[0][3:9] == ["trt", "--detector", "face", "--frame-size", "320x192", "--detector-size"]
    assert any("switching from ONNX Runtime" in message for message in caplog.messages)
    for each in after:
        np.testing.assert_allclose(each.boxes, before.boxes, atol=1e-2)


def test_an_engine_that_sorts_almost_equal_boxes_in_another_order_takes_over(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    detector = sorted_rows(tmp_path / "sorted.onnx")
    exchanged = sorted_rows(tmp_path / "exchanged.onnx", exchanged=True).graph.at_size((64, 64))
    image, go = np.zeros((64, 64, 3), np.uint8), threading.Event()

    def build(_command: list[str]) -> None:
        assert go.wait(SECONDS)
        store(cache, detector, exchanged, "", (64, 64))

    monkeypatch.setattr(build_client, "run_builder", build)
    network = run_network(detector, "tensorrt", by_name=True, precision=None, live=True)
    with caplog.at_level(logging.INFO):
        detector(image)
        go.set()
        (thread,) = [each for each in threading.enumerate() if each.name == "tensorrt engines"]
        thread.join(SECONDS)
        assert len(detector(image).boxes) == 1
    assert network.description == "engine"


def test_a_file_waits_for_the_engine_of_its_detector(
    cache: Cache,
    small_face: CenterFace,
    small_frames: list[NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(build_client, "run_builder", lambda _command: store(cache, small_face))
    run_network(small_face, "tensorrt", by_name=True, precision=None)
    assert agree(small_face, small_frames[:1], 0.999)
